# shellcheck shell=bash
# llama.cpp's own server and benchmark, to be measured beside itsd. Sourced, after machine.sh; wants $root set.

# PyPI's source package of the Python bindings has the whole of llama.cpp in it, the server too.
llama_cpp_package=llama_cpp_python-0.3.36
llama_cpp_requirement="llama-cpp-python==0.3.36 --hash=sha256:832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
llama_cpp=$root/target/bench/$llama_cpp_package
llama_cpp_programs=$llama_cpp/build/bin

# build_llama_cpp PYTHON: fetches it with that Python's pip and builds it as the machine's own build of itsd is built:
# with this processor's whole instruction set, with OpenMP, and for CUDA where nvcc is installed.
build_llama_cpp() {
  local cuda=OFF
  ! has nvcc || cuda=ON
  local archive=$llama_cpp/$llama_cpp_package.tar.gz source=$llama_cpp/source
  mkdir -p "$llama_cpp"
  if ! [ -e "$archive" ]; then
    say "Fetching $llama_cpp_package (a minute)"
    echo "$llama_cpp_requirement" >"$llama_cpp/requirements.txt"
    "$1" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --require-hashes \
      -d "$llama_cpp" -r "$llama_cpp/requirements.txt" || fail "$llama_cpp_package could not be fetched"
  fi
  if ! [ -e "$source/complete" ]; then
    rm -rf "$source"
    mkdir "$source"
    tar -xzf "$archive" -C "$source" --strip-components=1 \
      "$llama_cpp_package/CHANGELOG.md" "$llama_cpp_package/vendor/llama.cpp"
    touch "$source/complete"
  fi
  # It ends at once where everything is built.
  say "Building llama-server and llama-batched-bench at revision $(llama_cpp_revision) (minutes the first time)"
  cmake -S "$source/vendor/llama.cpp" -B "$llama_cpp/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
    -DGGML_NATIVE=ON -DGGML_OPENMP=ON -DGGML_CUDA=$cuda -DLLAMA_BUILD_COMMIT="$(llama_cpp_revision)" \
    -DLLAMA_BUILD_NUMBER=0 -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF \
    -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF >"$llama_cpp/build.log" 2>&1 \
    && cmake --build "$llama_cpp/build" -j "$(nproc)" --target llama-server llama-batched-bench \
      >>"$llama_cpp/build.log" 2>&1 \
    || fail "llama.cpp was not built: $(tail -n 5 "$llama_cpp/build.log")"
}

# The commit of llama.cpp that the package says it has.
llama_cpp_revision() {
  local version=${llama_cpp_package#*-}
  awk -v heading="## [$version]" '$0 == heading { found = 1 } found && sub(/.*llama\.cpp@/, "") { print; exit }' \
    "$llama_cpp/source/CHANGELOG.md"
}
