# Prints, for each failed entry of ctest's JUnit file, the last lines (LINES of them) that it wrote.

function unescaped(text) {
  gsub(/&lt;/, "<", text)
  gsub(/&gt;/, ">", text)
  gsub(/&quot;/, "\"", text)
  gsub(/&apos;/, "'", text)
  gsub(/&amp;/, "\\&", text)
  return text
}

function finish(first) {
  if (failed != "") {
    print failed ":"
    first = count > LINES ? count - LINES : 0
    for (i = first + 1; i <= count; i++) print "  | " unescaped(output[i])
  }
  failed = ""
  count = 0
  inside = 0
}

/^[ \t]*<testcase name=/ {
  finish()
  name = $0
  sub(/^[^"]*"/, "", name)
  sub(/".*/, "", name)
  if ($0 ~ / status="fail"/) failed = name
}
failed != "" && sub(/^[ \t]*<system-out>/, "") { inside = 1 }
inside {
  ends = sub(/<\/system-out>.*/, "")
  output[++count] = $0
  if (ends) inside = 0
}
END { finish() }
