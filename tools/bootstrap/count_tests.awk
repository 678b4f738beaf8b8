# Counts individual test cases of one ctest run. Reads ctest's JUnit file (named ctest.xml) and then
# the GoogleTest reports beside it, one for each test executable, named after its ctest entry.
# Prints "passed N", "failed N", and "fail NAME" or "skip NAME" for each case that did not pass.
# An entry without a GoogleTest report, or one that failed although its report shows no failure (a
# crash, a leak at exit, a time-out), counts as one case of its own.

function attribute(name, text) {
  if (!match($0, " " name "=\"[^\"]*\"")) return ""
  text = substr($0, RSTART, RLENGTH)
  sub(/^ [a-z]+="/, "", text)
  sub(/"$/, "", text)
  return text
}

FNR == 1 {
  report = FILENAME
  sub(/.*\//, "", report)
  sub(/\.xml$/, "", report)
  is_ctest = report == "ctest"
  case_name = ""
}

is_ctest && /^[ \t]*<testcase name=/ {
  entries[++entry_count] = attribute("name")
  state[entries[entry_count]] = attribute("status")
}

!is_ctest && /^[ \t]*<testcase name=/ {
  case_name = report ": " attribute("classname") "." attribute("name")
  case_list[report] = case_list[report] "\n" case_name
  verdict[case_name] = attribute("status") == "notrun" ? "skip" : "pass"
}

!is_ctest && /^[ \t]*<failure message=/ { verdict[case_name] = "fail" }
!is_ctest && /^[ \t]*<skipped message=/ && verdict[case_name] != "fail" {
  verdict[case_name] = "skip"
}

function record(name, result) {
  if (result == "pass") passed++
  if (result == "fail") { failed++; print "fail " name }
  if (result == "skip") print "skip " name
}

END {
  for (i = 1; i <= entry_count; i++) {
    entry = entries[i]
    failed_before = failed
    count = split(substr(case_list[entry], 2), cases, "\n")
    for (j = 1; j <= count; j++) record(cases[j], verdict[cases[j]])
    if (state[entry] == "fail" && failed == failed_before) record(entry, "fail")
    else if (state[entry] == "run" && count == 0) record(entry, "pass")
    else if (state[entry] != "run" && state[entry] != "fail") record(entry, "skip")
  }
  print "passed " passed + 0
  print "failed " failed + 0
}
