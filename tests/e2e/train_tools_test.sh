#!/usr/bin/env bash
# tools/train_prompts and tools/train_bundled_drafter: no prompt twice, none of them held out and
# trained on. The programs that capture, train and decode are stand-ins here.
set -euo pipefail
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../tools" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
  echo "train_tools_test: $*" >&2
  exit 1
}
expect_error() {
  local part=$1
  shift
  if "$@" >out 2>&1; then fail "no error of $*"; fi
  grep -qF -- "$part" out || fail "'$part' expected of $*, but: $(cat out)"
}
# The prompts of files of JSON lines, whatever else a line has.
prompts_of() { sed 's/.*"prompt": *//; s/}$//' "$@"; }

"$tools/train_prompts" 6000 >prompts
[ "$(wc -l <prompts)" = 6000 ] || fail "$(wc -l <prompts) prompts of 6000"
[ -z "$(prompts_of prompts | sort | uniq -d)" ] || fail "prompts repeat"
"$tools/train_prompts" 100 | cmp - <(head -n 100 prompts) || fail "a longer list begins otherwise"
expect_error "no more prompts of family func" "$tools/train_prompts" 400000

mkdir bin
cat >bin/ultraspeed <<'END'
#!/usr/bin/env bash
[ "$1" = bench ] && exit
while [ $# -gt 0 ]; do
  if [ "$1" = --out ]; then mkdir -p "$2" && touch "$2/capture.json"; fi
  shift
done
END
echo '#!/usr/bin/env bash' >bin/train_drafter
chmod +x bin/*
train() { ULTRASPEED=bin/ultraspeed "$tools/train_bundled_drafter" --device cpu "$@"; }

# Held out: the first tenth. Two of its prompts occur again, in lines that look otherwise.
{
  head -n 100 prompts
  sed -n 3p prompts
  sed -n '5s/"family": "[a-z]*", /"family":"other",  /p' prompts
} >mine
train --prompts mine --work held
[ "$(wc -l <held/check.jsonl)" = 10 ] || fail "$(wc -l <held/check.jsonl) held out of 102"
[ "$(wc -l <held/train.jsonl)" = 90 ] || fail "$(wc -l <held/train.jsonl) to train on"
cmp held/train.jsonl <(sed -n 11,100p mine) || fail "other prompts than those that are not held out"

# Held out by the caller.
sed -n '50,60s/"prompt": /"prompt" :/p' mine >check
train --prompts mine --check check --work given
cmp given/check.jsonl check || fail "--check was changed"
cmp given/train.jsonl <(sed '50,60d' mine) || fail "--check is trained on"

head -n 9 mine >few
expect_error "/few: 9 prompts; expected at least 10" train --prompts few --work new
train --prompts mine --work new # which was not begun with the few
expect_error "new was begun with prompts '$work/mine'" train --prompts few --work new
expect_error "none: cannot be read" train --prompts none --work new
expect_error "no prompts beside those that are held out" \
  train --prompts check --check check --work all
