# cmake -D SOURCE=DIR -D OUTPUT=FILE -D GIT=PROGRAM -P commit.cmake: writes the commit of DIR's
# sources as C++, if it is another than before, so that nothing else is compiled again.
set(commit "")
if(GIT AND EXISTS "${SOURCE}/.git")
  execute_process(COMMAND ${GIT} -C "${SOURCE}" rev-parse HEAD
    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if("${commit}" STREQUAL "")
  set(commit unknown)  # an unpacked archive, or no git
else()
  execute_process(
    COMMAND ${GIT} -C "${SOURCE}" diff --quiet HEAD -- src cmake CMakeLists.txt CMakePresets.json
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
