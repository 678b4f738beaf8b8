# The test command: tiers (release, asan, tsan, and fuzz, which runs what asan built), each
# configured, built, run and counted; then a table, what failed, what was skipped, and the totals on
# the last line.

TIERS=()
declare -A PASSED FAILED SKIPPED BUILD_TIME TEST_TIME GPU_SKIPS
FAILURES=()
FAILED_OUTPUT=()
SKIPS=()
FORBIDDEN_SKIPS=0

# add_tier NAME: a row of the table.
add_tier() {
  TIERS+=("$1")
  PASSED[$1]=0 FAILED[$1]=0 SKIPPED[$1]=0 BUILD_TIME[$1]=0 TEST_TIME[$1]=0
}

# build_tier PRESET [TARGET]: configures and builds; if that fails, counts it and returns 1.
build_tier() {
  local name=$1 target=${2:-all} start=$SECONDS status=0 flags=()
  add_tier "$name"
  [ "$name" != release ] || read -ra flags < <(cuda_flags)
  configure "$name" -DULTRASPEED_TESTS=ON -DULTRASPEED_JOIN_SOURCES=ON \
    -DULTRASPEED_TIMEOUT_SCALE="$TEST_SCALE" "${flags[@]}" && compile "$name" "$target" || status=1
  BUILD_TIME[$name]=$((SECONDS - start))
  if [ $status -ne 0 ]; then
    FAILED[$name]=1
    FAILURES+=("$name: does not build")
  fi
  return $status
}

# count_cases TIER REPORTS: adds the cases of a ctest run to the tables.
count_cases() {
  local name=$1 reports=$2 kind value gpu
  gpu=$(ctest --test-dir "$BUILD_ROOT/$name" -N -L '^gpu$' | sed -nE 's/^ *Test +#[0-9]+: //p')
  while read -r kind value; do
    case $kind in
      passed) PASSED[$name]=$value ;;
      failed) FAILED[$name]=$((FAILED[$name] + value)) ;;
      fail) FAILURES+=("$name: $value") ;;
      skip)
        SKIPPED[$name]=$((SKIPPED[$name] + 1))
        if grep -qxF "${value%%: *}" <<<"$gpu"; then
          GPU_SKIPS["$name: ${value%%: *}"]=$((${GPU_SKIPS["$name: ${value%%: *}"]:-0} + 1))
        else
          SKIPS+=("$name: $value (NOT a GPU test: a failure)")
          FORBIDDEN_SKIPS=$((FORBIDDEN_SKIPS + 1))
        fi
        ;;
    esac
  done < <(find "$reports" -name '*.xml' ! -name ctest.xml -print0 |
    xargs -0 awk -f tools/bootstrap/count_tests.awk "$reports/ctest.xml")
  mapfile -t -O "${#FAILED_OUTPUT[@]}" FAILED_OUTPUT < <(
    awk -v LINES=30 -f tools/bootstrap/failed_output.awk "$reports/ctest.xml")
}

# test_tier NAME CTEST_FLAGS...: runs the tests of a built tier, without address randomisation where
# the kernel allows that: ThreadSanitizer's fixed shadow does not fit every randomised layout.
test_tier() {
  local name=$1 start=$SECONDS reports=$PWD/$BUILD_ROOT/$1/reports fixed=() status=0
  shift
  ! setarch "$(uname -m)" -R true 2>/dev/null || fixed=(setarch "$(uname -m)" -R)
  rm -rf "$reports"
  mkdir -p "$reports"
  STEP_TAIL_LINES=80 step "testing $name" \
    "Run one test alone with: ctest --test-dir $BUILD_ROOT/$name -R NAME -V" \
    env GTEST_OUTPUT="xml:$reports/" US_TEST_SCALE="$TEST_SCALE" \
    ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1 \
    UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=second_deadlock_stack=1 "${fixed[@]}" \
    ctest --test-dir "$BUILD_ROOT/$name" -j "$(job_count)" --output-on-failure --no-tests=error \
    --output-junit "$reports/ctest.xml" "$@" || status=$?
  if [ -f "$reports/ctest.xml" ]; then
    count_cases "$name" "$reports"
    fail_unless_counted "$name" ctest $status
  else
    FAILED[$name]=1
    FAILURES+=("$name: ctest did not finish")
  fi
  TEST_TIME[$name]=$((SECONDS - start))
}

# fail_unless_counted TIER WHAT STATUS: a step that failed without a failed case is a failure.
fail_unless_counted() {
  if [ "$3" -ne 0 ] && [ "${FAILED[$1]}" -eq 0 ]; then
    FAILED[$1]=1
    FAILURES+=("$1: $2 ended with status $3")
  fi
}

# fuzz_tier SECONDS: the fuzz targets of build/asan.
fuzz_tier() {
  local build=$BUILD_ROOT/asan start=$SECONDS status=0 verdict name rest
  local seconds=$((${FUZZ_SECONDS:-$1} * TEST_SCALE))
  add_tier fuzz
  STEP_TAIL_LINES=80 step "fuzzing each target for $seconds s" \
    "Reproduce with: $build/TARGET ARTIFACT" \
    tests/fuzz/run "$build" "$seconds" "$(job_count)" || status=$?
  while read -r verdict name rest; do
    if [ "$verdict" = passed ]; then
      PASSED[fuzz]=$((PASSED[fuzz] + 1))
    else
      FAILED[fuzz]=$((FAILED[fuzz] + 1))
      FAILURES+=("fuzz: $name $rest")
    fi
  done <"$build/results.txt"
  fail_unless_counted fuzz "the runner" $status
  TEST_TIME[fuzz]=$((SECONDS - start))
}

print_summary() {
  local name line
  say ""
  say "$(printf '%-10s %9s %9s %8s %8s %8s' tier build test passed failed skipped)"
  for name in "${TIERS[@]}"; do
    say "$(printf '%-10s %7d s %7d s %8d %8d %8d' "$name" \
      "${BUILD_TIME[$name]}" "${TEST_TIME[$name]}" \
      "${PASSED[$name]}" "${FAILED[$name]}" "${SKIPPED[$name]}")"
  done
  say "Total time: $(seconds_text $SECONDS). Log: $LOG"
  if cuda_compiler >/dev/null; then
    say "GPU: its code was built in build/release; its tests are skipped where there is no GPU."
  else
    say "GPU: no CUDA 13 here; nothing was built for a GPU."
  fi
  say "Skipped:"
  for name in "${!GPU_SKIPS[@]}"; do say "  $name: ${GPU_SKIPS[$name]} tests that need a GPU"; done
  for line in "${SKIPS[@]}"; do say "  $line"; done
  for line in "${FAILED_OUTPUT[@]}"; do say "$line"; done
  for line in "${FAILURES[@]}"; do say "FAILED $line"; done
}

# test_command SCALE FUZZ_SECONDS: all tiers; SCALE multiplies randomised tests, time limits and
# fuzzing, which takes FUZZ_SECONDS a target unless the environment says otherwise.
test_command() {
  local passed=0 failed=0 name sanitizer_tests=(-LE '^(slow|npm|gpu|tidy)$')
  TEST_SCALE=$1
  open_log
  if [ "$TEST_SCALE" -eq 1 ]; then
    require_resources 8000 3000 "at most 40 minutes on 2 cores"
  else
    require_resources 8000 3000 "up to $TEST_SCALE times as long as ./bootstrap test"
  fi
  install_packages build test
  build_tier release && test_tier release
  if build_tier asan; then
    # Without those that take longest and are about orders of threads, which the other sanitizer is
    # for, or about what numbers and proofs say of code that other tests run, too.
    test_tier asan "${sanitizer_tests[@]}" \
      -E '^((drafter_)?schedule|dflash|engine_open|logit_shares|mutation)_test$'
    fuzz_tier "$2"
  fi
  build_tier tsan unit_tests && test_tier tsan "${sanitizer_tests[@]}"
  close_log
  print_summary
  for name in "${TIERS[@]}"; do
    passed=$((passed + PASSED[$name]))
    failed=$((failed + FAILED[$name]))
  done
  failed=$((failed + FORBIDDEN_SKIPS))
  say "$passed passed, $failed failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}
