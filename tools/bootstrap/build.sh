# Configuring and building. The run and test commands share build/release: run configures it without
# tests if it is new, test switches the tests on, and run leaves them on afterwards. Both compile
# several sources at a time, which takes half as long from nothing.

BINARY=$BUILD_ROOT/release/ultraspeed

# configured DIR: whether DIR belongs to this clone and is newer than the presets (which ninja does
# not watch; it watches the CMake files itself).
configured() {
  [ -f "$1/build.ninja" ] && [ "$1/build.ninja" -nt CMakePresets.json ] &&
    grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$1/CMakeCache.txt"
}

# configure PRESET FLAGS...
configure() {
  local preset=$1 directory=$BUILD_ROOT/$1
  shift
  if [ -f "$directory/CMakeCache.txt" ] &&
    ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$directory/CMakeCache.txt"; then
    rm -rf "$directory" # made when the clone lay elsewhere
  fi
  step "configuring $preset" "If $directory is stale or damaged, remove it and run this again." \
    cmake --preset "$preset" "$@"
}

# compile PRESET TARGET...
compile() {
  local preset=$1 jobs
  shift
  jobs=$(job_count)
  step "building $preset with $jobs jobs" \
    "If a compiler was killed, memory ran out: try JOBS=1. If the folder is damaged, remove it." \
    ninja -C "$BUILD_ROOT/$preset" -j "$jobs" "$@"
}

# The GPU's executor is built where CUDA 13 is installed: NVCC, or where its compiler usually is.
cuda_compiler() {
  local nvcc
  for nvcc in ${NVCC:-nvcc /usr/local/cuda/bin/nvcc}; do
    nvcc=$(command -v "$nvcc") || continue
    "$nvcc" --version | grep -qE 'release (1[3-9]|[2-9][0-9])\.' || continue
    echo "$nvcc"
    return 0
  done
  return 1
}

# cmake flags for build/release.
cuda_flags() {
  local nvcc
  if nvcc=$(cuda_compiler); then
    echo "-DULTRASPEED_CUDA=ON -DCMAKE_CUDA_COMPILER=$nvcc"
  else
    [ -z "${NVCC:-}" ] || warn "NVCC=$NVCC: not a compiler of CUDA 13; building without GPU code"
    echo "-DULTRASPEED_CUDA=OFF"
  fi
}

# configured_with FLAGS...: whether build/release has them; CMake adds the types of the values.
configured_with() {
  local flag
  for flag in "$@"; do
    flag=${flag#-D}
    grep -qE "^${flag%%=*}:[A-Z]+=${flag#*=}\$" "$BUILD_ROOT/release/CMakeCache.txt" || return 1
  done
}

# Installs, configures and builds the binary; silent and quick when there is nothing to do.
build_binary() {
  local flags
  if [ ! -x "$BINARY" ] || [ -n "$(missing_packages build)" ]; then
    require_resources 1500 2000 "at most 10 minutes (mostly compiling) the first time, then nothing"
  fi
  install_packages build
  read -ra flags < <(cuda_flags)
  if ! configured "$BUILD_ROOT/release"; then
    configure release -DULTRASPEED_TESTS=OFF -DULTRASPEED_JOIN_SOURCES=ON "${flags[@]}" || exit 1
  elif ! configured_with "${flags[@]}"; then  # CUDA came or went
    configure release "${flags[@]}" || exit 1
  fi
  case $(ninja -C "$BUILD_ROOT/release" -n ultraspeed 2>&1) in *"no work to do"*) return 0 ;; esac
  compile release ultraspeed || exit 1
}
