# Helpers for the module libraries: one library a folder, linked to exactly its listed dependencies.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
if(ULTRASPEED_TESTS)
  find_package(GTest REQUIRED)
endif()

add_library(ultraspeed_flags INTERFACE)
set(cxx_flags -Wall -Wextra -Wconversion -Wshadow -Wnon-virtual-dtor -Werror -fno-omit-frame-pointer
  -ffp-contract=off)  # docs/numerics.md says where products are fused into sums
set(cuda_flags -Werror=all-warnings --expt-relaxed-constexpr -fmad=false)
target_compile_options(ultraspeed_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:${cxx_flags}>" "$<$<COMPILE_LANGUAGE:CUDA>:${cuda_flags}>")
target_include_directories(ultraspeed_flags INTERFACE ${PROJECT_SOURCE_DIR}/src)
if(ULTRASPEED_SANITIZE)
  target_compile_options(ultraspeed_flags INTERFACE -fsanitize=${ULTRASPEED_SANITIZE}
    -fno-sanitize-recover=all
    # g++ 12 warns of std::optional in instrumented code; release checks. Clang has no such warning.
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_link_options(ultraspeed_flags INTERFACE -fsanitize=${ULTRASPEED_SANITIZE})
  include(CheckLinkerFlag)
  check_linker_flag(CXX -fuse-ld=lld ULTRASPEED_HAS_LLD)
  if(ULTRASPEED_HAS_LLD)  # links 40 instrumented programs in a tenth of the time
    target_link_options(ultraspeed_flags INTERFACE -fuse-ld=lld)
  endif()
endif()

# add_module(NAME SOURCES a.cc ... DEPS base ... LIBS third_party ...)
# A module without sources is header only. ULTRASPEED_JOIN_SOURCES: a missing include shows only
# where it is off.
function(add_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  set(target ultraspeed_${name})
  list(TRANSFORM ARG_DEPS PREPEND ultraspeed_)
  if(ARG_SOURCES)
    add_library(${target} STATIC ${ARG_SOURCES})
    if(ULTRASPEED_JOIN_SOURCES)
      set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
    endif()
    # Sanitizers want no speed of code that computes little, and compile it in half the time.
    if(ULTRASPEED_SANITIZE AND name MATCHES "^(access|apps|hub|net|server)$")
      target_compile_options(${target} PRIVATE -O0)
    endif()
    # What fuzz targets explore.
    if(ULTRASPEED_FUZZ AND name MATCHES "^(access|apps|base|grammar|hub|model|text|server|train)$")
      target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
    endif()
    target_link_libraries(${target} PUBLIC ultraspeed_flags ${ARG_DEPS} ${ARG_LIBS})
  else()
    add_library(${target} INTERFACE)
    target_link_libraries(${target} INTERFACE ultraspeed_flags ${ARG_DEPS} ${ARG_LIBS})
  endif()
endfunction()

# Those that the build's sanitizer runs, with what they need.
add_custom_target(unit_tests)

# add_unit_test(NAME SOURCES a_test.cc ... DEPS module ... [LABELS l ...] [TIMEOUT seconds]
#   [COST seconds]). COST: about what a long test takes; ctest begins with the longest, so that no
# processor is idle at the end.
# One executable and one ctest entry; US_SOURCE_DIR is the repository root. Labels that
# ./bootstrap test knows: slow (release only), npm (release only, uses the network), gpu (may skip),
# threads (the only ones that run under ThreadSanitizer).
# Test sources are compiled with less optimisation and, with ULTRASPEED_JOIN_SOURCES, several at a
# time: compiling them is most of a sanitizer build.
function(add_unit_test name)
  if(NOT ULTRASPEED_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "TIMEOUT;COST" "SOURCES;DEPS;LIBS;LABELS" ${ARGN})
  list(TRANSFORM ARG_DEPS PREPEND ultraspeed_)
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ultraspeed_flags ${ARG_DEPS} ${ARG_LIBS} GTest::gtest_main)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)  # support/scale.h
  if(ULTRASPEED_JOIN_SOURCES)
    set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
  endif()
  target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-O1>)
  target_compile_definitions(${name} PRIVATE US_SOURCE_DIR="${ULTRASPEED_TEST_ROOT}")
  if(ULTRASPEED_SANITIZE)
    target_compile_options(${name} PRIVATE -O0)
    set(divisor 5)
    if(ULTRASPEED_SANITIZE MATCHES "thread")
      set(divisor 10)
    endif()
    target_compile_definitions(${name} PRIVATE ULTRASPEED_TRIAL_DIVISOR=${divisor})
    if(ARG_LABELS MATCHES "slow|npm|gpu" OR
       (ULTRASPEED_SANITIZE MATCHES "thread" AND NOT ARG_LABELS MATCHES "threads"))
      set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
      return()
    endif()
  endif()
  add_dependencies(unit_tests ${name})
  add_test(NAME ${name} COMMAND ${name})
  if(ULTRASPEED_TEST_ROOT STREQUAL ".")
    set_tests_properties(${name} PROPERTIES WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 600)
  endif()
  math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * ${ULTRASPEED_TIMEOUT_SCALE}")
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
  if(ARG_COST)
    set_tests_properties(${name} PROPERTIES COST ${ARG_COST})
  endif()
endfunction()

# add_fuzz_target(NAME SOURCES a_fuzz.cc DEPS module ... [CORPUS dir]), where ULTRASPEED_FUZZ is on.
# CORPUS is a folder of seed inputs, relative to the repository root; write_fuzz_list() names the
# targets in fuzz_targets.txt for tests/fuzz/run.
function(add_fuzz_target name)
  cmake_parse_arguments(ARG "" "CORPUS" "SOURCES;DEPS;LIBS" ${ARGN})
  if(NOT ULTRASPEED_FUZZ)
    return()
  endif()
  list(TRANSFORM ARG_DEPS PREPEND ultraspeed_)
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ultraspeed_flags ${ARG_DEPS} ${ARG_LIBS})
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer-no-link)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set_property(GLOBAL APPEND PROPERTY ULTRASPEED_FUZZ_TARGETS "${name} ${ARG_CORPUS}")
endfunction()

function(write_fuzz_list)
  get_property(targets GLOBAL PROPERTY ULTRASPEED_FUZZ_TARGETS)
  list(JOIN targets "\n" lines)
  file(WRITE ${CMAKE_BINARY_DIR}/fuzz_targets.txt "${lines}\n")
endfunction()
