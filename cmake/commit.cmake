# cmake -DSOURCE=DIR -DOUTPUT=FILE -P commit.cmake: writes the commit of DIR's sources as C++, where
# it changed, so that what includes it is only then compiled again.
set(commit "")
find_program(git git)
if(git)
  execute_process(COMMAND ${git} -C "${SOURCE}" rev-parse HEAD
    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if("${commit}" STREQUAL "")
  set(commit unknown)  # an unpacked archive
else()
  execute_process(COMMAND ${git} -C "${SOURCE}" diff --quiet HEAD
    RESULT_VARIABLE differs ERROR_QUIET)
  if(differs)
    string(APPEND commit "+")
  endif()
endif()
set(text "inline constexpr char kCommit[] = \"${commit}\";\n")
set(before "")
if(EXISTS "${OUTPUT}")
  file(READ "${OUTPUT}" before)
endif()
if(NOT "${text}" STREQUAL "${before}")
  file(WRITE "${OUTPUT}" "${text}")
endif()
