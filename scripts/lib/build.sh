# shellcheck shell=bash
# The release build for the machine at hand. Sourced, after machine.sh; wants $root set.

# A directory of its own, so that this build and the tests' builds leave each other alone.
native_target=$root/target/native

# build_native CARGO_ARGUMENT…: builds in release with this processor's whole instruction set, which is worth 10 to 20 %
# of speed in llama.cpp (its build follows the flag), and for CUDA where nvcc is installed.
build_native() {
  if has nvcc; then
    say "Building itsd in release, with CUDA (minutes the first time)"
  else
    say "Building itsd in release (minutes the first time)"
  fi
  native_cargo build --release "$@"
}

# bench_native CARGO_ARGUMENT…: runs a benchmark of that build.
bench_native() { native_cargo bench --quiet "$@"; }

native_cargo() { # command, arguments
  local command=$1 features=()
  shift
  ! has nvcc || features=(--features cuda)
  RUSTFLAGS="${RUSTFLAGS:-} -C target-cpu=native" CARGO_TARGET_DIR="$native_target" \
    cargo "$command" --manifest-path "$root/Cargo.toml" --locked "${features[@]}" "$@"
}
