#!/usr/bin/env bash
# tests/e2e/serve_test.sh ULTRASPEED: the HTTP API of the built program, by curl, with the bundled
# model: streamed and unstreamed answers, every kind of wrong request, and a client that hangs up;
# after each of these the next request works.
set -uo pipefail
program=$1
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
for tool in curl grep sed; do
  command -v "$tool" >/dev/null || {
    echo "serve_test: $tool is not installed; on Debian: apt-get install curl grep sed" >&2
    exit 1
  }
done

scratch=$(mktemp -d)
log=$scratch/server.txt
failures=0
"$program" serve --model models/tiny-mimo --port 0 2>"$log" &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server"; rm -rf "$scratch"' EXIT

fail() {
  echo "FAILED: $1" >&2
  failures=$((failures + 1))
}

# wait_for_log PATTERN: until the server has logged it, for at most 60 s.
wait_for_log() {
  for _ in $(seq 600); do
    grep -q -- "$1" "$log" && return 0
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  fail "the server did not log '$1'"
  cat "$log" >&2
  return 1
}

wait_for_log "listening on http://" || exit 1
url=$(sed -n 's/.*listening on \(http:[^ ]*\).*/\1/p' "$log" | head -n 1)

# request PATH BODY [CURL FLAGS...]: sets $status and $body.
request() {
  local path=$1 data=$2
  shift 2
  printf '%s' "$data" >"$scratch/request"
  status=$(curl --silent --show-error --max-time 120 --output "$scratch/body" \
    --dump-header "$scratch/headers" --write-out '%{http_code}' \
    --header 'Content-Type: application/json' --data-binary "@$scratch/request" "$@" "$url$path")
  body=$(cat "$scratch/body")
}

# expect NAME STATUS PATTERN...: of the last request; each pattern is a fixed string of the body.
expect() {
  local name=$1 wanted=$2 pattern
  shift 2
  [ "$status" = "$wanted" ] || fail "$name: status $status instead of $wanted: $body"
  for pattern in "$@"; do
    grep -qF -- "$pattern" "$scratch/body" || fail "$name: no '$pattern' in: $body"
  done
}

expect_header() {
  grep -qi "^$1: $2" "$scratch/headers" || fail "no header '$1: $2' in: $(cat "$scratch/headers")"
}

greedy='"model":"tiny-mimo","temperature":0,"max_tokens":16'
question='Tom has 3 apples and buys 4 more. How many has he?'
messages="\"messages\":[{\"role\":\"user\",\"content\":\"$question\"}]"
completion="{$greedy,\"prompt\":\"def add(a, b):\"}"

expect_works() {
  request /v1/completions "$completion"
  expect "the next request after $1" 200 '"text":"' '"finish_reason":'
}

body=$(curl --silent "$url/health")
[ "$body" = '{"status":"ok"}' ] || fail "/health: $body"
body=$(curl --silent "$url/v1/models")
grep -qF '"id":"tiny-mimo"' <<<"$body" || fail "/v1/models: $body"

first_request=$(sed -n 's/^try: //p' "$log")
body=$(eval "${first_request/curl/curl --silent --max-time 120}")
grep -qF '"finish_reason":' <<<"$body" || fail "$first_request: $body"

request /v1/completions "$completion" --header 'X-Request-Id: my-request'
expect completion 200 '"object":"text_completion"' '"finish_reason":' '"total_tokens":'
expect_header x-request-id my-request

request /v1/completions "{$greedy,\"prompt\":\"def add(a, b):\",\"stream\":true}" --no-buffer
expect "streamed completion" 200 'data: {"id":"cmpl-' '"finish_reason":"' 'data: [DONE]'
expect_header content-type text/event-stream
expect_header cache-control no-cache

request /v1/chat/completions "{$greedy,$messages}"
expect chat 200 '"object":"chat.completion"' '"role":"assistant"' '"usage":'

request /v1/chat/completions \
  "{$greedy,$messages,\"stream\":true,\"stream_options\":{\"include_usage\":true}}" --no-buffer
expect "streamed chat" 200 '"delta":{"role":"assistant","content":""}' '"choices":[],"usage":{' \
  'data: [DONE]'

request /v1/chat/completions "{$greedy,$messages"
expect "bad JSON" 400 '"code":"invalid_json"' 'line 1, column'
expect_works "bad JSON"

request /v1/completions '{"model":"gpt-4","prompt":"x"}'
expect "unknown model" 404 '"code":"model_not_found"' '"param":"model"' 'gpt-4'
expect_works "an unknown model"

long=$(printf 'word%.0s ' $(seq 20000))
request /v1/completions "{$greedy,\"prompt\":\"$long\"}"
expect "too long a prompt" 400 '"code":"context_length_exceeded"' '"param":"prompt"'
request /v1/chat/completions \
  "{$greedy,\"messages\":[{\"role\":\"user\",\"content\":\"$long\"}]}"
expect "too long a chat" 400 '"code":"context_length_exceeded"' '"param":"messages"'
expect_works "too long a prompt"

request /v1/completions "{$greedy,\"prompt\":\"x\",\"top_p\":7}"
expect "a field out of range" 400 '"param":"top_p"'
request /v1/unknown '{}'
expect "an unknown route" 404 '"code":"unknown_url"'
request /v1/models '{}'
expect "a wrong method" 405 '"code":"method_not_allowed"'

# A client that leaves in the middle of an answer that would not end by itself.
endless='"model":"tiny-mimo","prompt":"1 2 3","ignore_eos":true'
printf '%s' "{$endless,\"stream\":true}" >"$scratch/request"
curl --silent --no-buffer --header 'X-Request-Id: streamed' --data-binary "@$scratch/request" \
  "$url/v1/completions" | head -n 3 >"$scratch/body"
grep -q '^data: {' "$scratch/body" || fail "nothing was streamed before the client left"
wait_for_log "id=streamed .*end=client closed the connection"
printf '%s' "{$endless}" >"$scratch/request"
curl --silent --max-time 1 --header 'X-Request-Id: whole' --data-binary "@$scratch/request" \
  "$url/v1/completions" >"$scratch/body" && fail "an endless answer ended"
wait_for_log "id=whole .*end=client closed the connection"
expect_works "clients that hung up"

kill -TERM "$server"
wait "$server"
exit_code=$?
[ "$exit_code" -eq 0 ] || fail "the server ended with $exit_code"

# By a socket file, as the printed line says.
"$program" serve --model models/tiny-mimo --unix-socket "$scratch/socket" 2>"$log" &
server=$!
wait_for_log "listening on unix:$scratch/socket" || exit 1
first_request=$(sed -n 's/^try: //p' "$log")
body=$(eval "${first_request/curl/curl --silent --max-time 120}")
grep -qF '"finish_reason":' <<<"$body" || fail "$first_request: $body"

# Killed in the middle of an answer it leaves its socket file, which the next one replaces.
curl --silent --unix-socket "$scratch/socket" --data-binary "@$scratch/request" \
  http://localhost/v1/completions >/dev/null &
client=$!
sleep 0.3
kill -KILL "$server"
wait "$server" "$client" 2>/dev/null
[ -e "$scratch/socket" ] || fail "a killed server took its socket file along"
: >"$log"
"$program" serve --model models/tiny-mimo --unix-socket "$scratch/socket" 2>"$log" &
server=$!
wait_for_log "listening on unix:$scratch/socket" || exit 1
body=$(eval "${first_request/curl/curl --silent --max-time 120}")
grep -qF '"finish_reason":' <<<"$body" || fail "after a kill: $first_request: $body"
curl --silent --unix-socket "$scratch/socket" http://localhost/health/ready | grep -qF '"ok"' ||
  fail "it is not ready after a kill"
kill -TERM "$server"
wait "$server" || fail "the server on a socket file ended with $?"
[ -e "$scratch/socket" ] && fail "the server left its socket file"
[ "$failures" -eq 0 ] || exit 1
echo "serve_test: passed"
