# shellcheck shell=bash
# What this machine must have before anything can be built, and how it gets there.
# Sourced by the scripts; it defines functions and does nothing by itself.

# What runs on this machine is reached directly, whatever proxy the network wants.
export no_proxy="127.0.0.1,localhost${no_proxy:+,$no_proxy}"
export NO_PROXY="$no_proxy"

say() { printf '\n==> %s\n' "$*" >&2; }

fail() {
  printf '\nerror: %s\n' "$*" >&2
  exit 1
}

# Packages that `install_wanted` will install, and the reason for each, in step.
wanted_packages=()
wanted_reasons=()

want() { # package, reason
  wanted_packages+=("$1")
  wanted_reasons+=("$2")
}

has() { command -v "$1" >/dev/null 2>&1; }

# bindgen needs the library itself and clang's own headers; packages of other tools bring the one without the other.
has_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] && return 0
  local library headers
  for headers in /usr/lib/llvm-*/lib/clang/*/include/stddef.h /usr/lib/clang/*/include/stddef.h; do
    [ -e "$headers" ] || continue
    for library in /usr/lib/llvm-*/lib/libclang{,-[0-9]*}.so* /usr/lib/*-linux-gnu/libclang{,-[0-9]*}.so* /usr/lib64/libclang.so*; do
      [ -e "$library" ] && return 0
    done
  done
  return 1
}

want_build_tools() {
  has c++ || want g++ "llama.cpp is C++, and Rust links with this compiler"
  has make || want make "cmake drives llama.cpp's build with it"
  has cmake || want cmake "it configures llama.cpp's build"
  has_libclang || want libclang-dev "the Rust bindings of llama.cpp are generated with it"
}

want_http_client() {
  has curl || want curl "this script talks to the daemon with it"
  has jq || want jq "this script reads the daemon's JSON with it"
}

want_python() {
  has python3 || want python3 "the client tests are Python programs"
  # On Debian `venv` imports without ensurepip, but then cannot make an environment.
  python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || want python3-venv "the client tests get an environment of their own"
}

want_node() {
  has node || want nodejs "the client tests in JavaScript run in it"
  has npm || want npm "it installs the client of those tests"
}

# Installs what the `want_…` functions noted, after saying what and why. Needs apt, and root or sudo.
install_wanted() {
  [ "${#wanted_packages[@]}" -gt 0 ] || return 0
  say "This machine lacks:"
  local i
  for i in "${!wanted_packages[@]}"; do
    printf '      %-14s %s\n' "${wanted_packages[$i]}" "${wanted_reasons[$i]}" >&2
  done
  has apt-get || fail "there is no apt-get here: install these with this system's package manager, then start again"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    has sudo || fail "installing needs root and there is no sudo: as root, run: apt-get install ${wanted_packages[*]}"
    as_root=(sudo)
  fi
  say "Installing: ${wanted_packages[*]}"
  "${as_root[@]}" apt-get update -qq || fail "apt-get update failed: see its message above"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${wanted_packages[@]}" >&2 \
    || fail "apt-get could not install the packages above"
  wanted_packages=()
  wanted_reasons=()
}

require_rust() {
  # rustup puts cargo here, and a shell that was open before does not know yet.
  has cargo || PATH="$HOME/.cargo/bin:$PATH"
  has cargo || fail "cargo is not installed: get Rust from https://rustup.rs, then start again"
  local wanted present
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
  present=$(rustc --version | cut -d' ' -f2)
  if [ "$(printf '%s\n' "$wanted" "$present" | sort -V | head -n1)" != "$wanted" ]; then
    fail "Rust $wanted or newer is needed and this is $present: get it from https://rustup.rs, then start again"
  fi
}

require_node() {
  local present
  present=$(node --version)
  [ "$(printf '%s\n' v18 "$present" | sort -V | head -n1)" = v18 ] \
    || fail "Node 18 or newer is needed for the client tests and this is $present: see https://nodejs.org"
}

# python_environment DIRECTORY REQUIREMENTS: a virtual environment with exactly these packages, made anew when they change.
python_environment() {
  local directory=$1 requirements=$2
  cmp -s "$requirements" "$directory/installed-requirements.txt" && "$directory/bin/python" -c "import sys" 2>/dev/null && return 0
  rm -rf "$directory"
  python3 -m venv "$directory"
  "$directory/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$directory/installed-requirements.txt"
}
