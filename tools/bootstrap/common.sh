# Shared by ./bootstrap and tools/*: messages, the log, steps with progress, and how many jobs fit.
# Sourced by bash with the repository root as the working directory; needs only what Debian's
# essential packages provide.

BUILD_ROOT=build
LOG=$BUILD_ROOT/bootstrap.log
STEP_PID=

# Messages go to descriptor 3, which ./bootstrap points at stderr (run) or stdout (everything else).
say() { printf '%s\n' "$*" >&3; }
warn() { printf 'warning: %s\n' "$*" >&3; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# open_log: starts an empty log and makes sure that one command at a time works in this clone.
open_log() {
  mkdir -p "$BUILD_ROOT" 2>/dev/null && [ -w "$BUILD_ROOT" ] ||
    die "cannot write to $PWD/$BUILD_ROOT; make it yours (chown) or remove it, then try again"
  exec 9>"$BUILD_ROOT/.bootstrap.lock"
  if ! flock -n 9; then
    say "another ./bootstrap is working in this clone; waiting for it to finish"
    flock 9
  fi
  : >"$LOG"
  trap 'interrupted' INT TERM
}

close_log() {
  trap - INT TERM
  exec 9>&-
}

interrupted() {
  trap - INT TERM
  [ -z "$STEP_PID" ] || kill -TERM -- "-$STEP_PID" 2>/dev/null
  printf '\n' >&3
  die "interrupted; run the same command again to continue where it stopped"
}

# seconds_text 75 -> "1 min 15 s"
seconds_text() {
  if [ "$1" -ge 60 ]; then echo "$(($1 / 60)) min $(($1 % 60)) s"; else echo "$1 s"; fi
}

# Prints "DONE TOTAL" from the newest "[DONE/TOTAL]" (ninja, fuzz runner) or "DONE/TOTAL Test"
# (ctest) in the log after byte $1.
step_position() {
  tail -c "+$(($1 + 1))" "$LOG" | tail -c 4000 |
    sed -nE 's/^ *\[?([0-9]+)\/([0-9]+)(\]| Test ).*/\1 \2/p' | tail -n 1
}

# show_progress LABEL ELAPSED "DONE TOTAL": one line with a bar and an estimate, or, where the
# command does not count, with the last line of its output.
show_progress() {
  local label=$1 elapsed=$2 done=${3% *} total=${3#* } text bar filled
  if [ -z "$3" ] || [ "$total" -eq 0 ] || [ "$done" -eq 0 ]; then
    text="  $label: $(seconds_text "$elapsed"), $(tail -n 1 "$LOG" | tr -d '\r' | cut -c 1-60)"
  else
    text="$done/$total, about $(seconds_text $((elapsed * (total - done) / done))) left"
    filled=$((20 * done / total))
    bar=$(printf '%*s' "$filled" '' | tr ' ' '#')$(printf '%*s' $((20 - filled)) '' | tr ' ' '.')
    text="  $label [$bar] $text"
  fi
  if [ -t 3 ]; then printf '\r\033[K%s' "$text" >&3; else say "$text"; fi
}

# step LABEL HINT COMMAND...: runs COMMAND with its output in the log and shows progress. On failure
# prints the end of that output and HINT (what to try), and returns the command's status.
step() {
  local label=$1 hint=$2 start=$SECONDS offset last=0 interval=30 status=0
  shift 2
  printf '\n==== %s: %s\n' "$label" "$*" >>"$LOG"
  offset=$(stat -c %s "$LOG")
  if [ -t 3 ]; then interval=1; else say "  $label ..."; fi
  set -m
  "$@" >>"$LOG" 2>&1 3>&- 9>&- </dev/null &
  STEP_PID=$!
  set +m
  while kill -0 "$STEP_PID" 2>/dev/null; do
    sleep 0.2
    if [ $((SECONDS - start - last)) -ge "$interval" ]; then
      last=$((SECONDS - start))
      show_progress "$label" "$last" "$(step_position "$offset")"
    fi
  done
  wait "$STEP_PID" || status=$?
  STEP_PID=
  [ ! -t 3 ] || printf '\r\033[K' >&3
  if [ "$status" -eq 0 ]; then
    say "  $label: done ($(seconds_text $((SECONDS - start))))"
    return 0
  fi
  say "FAILED: $label (exit status $status, $(seconds_text $((SECONDS - start))));" \
    "the end of its output:"
  tail -c "+$((offset + 1))" "$LOG" | tail -n "${STEP_TAIL_LINES:-30}" | sed 's/^/  | /' >&3
  say "The whole output is in $LOG. $hint"
  return "$status"
}

# Free memory in kB: what the kernel can give without swapping, or what a memory limit leaves.
free_memory_kb() {
  local free limit used
  free=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo 2>/dev/null)
  free=${free:-4000000}
  if [ -r /sys/fs/cgroup/memory.max ] && [ -r /sys/fs/cgroup/memory.current ]; then
    limit=$(cat /sys/fs/cgroup/memory.max)
    used=$(cat /sys/fs/cgroup/memory.current)
    if [ "$limit" != max ] && [ $(((limit - used) / 1024)) -lt "$free" ]; then
      free=$(((limit - used) / 1024))
    fi
  fi
  echo "$free"
}

# One compiler job for each core, at most one for each 1.5 GB of free memory; JOBS overrides.
job_count() {
  local jobs cores
  if [ -n "${JOBS:-}" ]; then
    echo "$JOBS"
    return
  fi
  cores=$(nproc)
  jobs=$(($(free_memory_kb) / 1500000))
  [ "$jobs" -le "$cores" ] || jobs=$cores
  [ "$jobs" -ge 1 ] || jobs=1
  echo "$jobs"
}

# require_count NAME VALUE
require_count() {
  case $2 in '' | *[!0-9]* | 0) die "$1 is '$2'; expected a number of at least 1" ;; esac
}

free_disk_mb() { df -Pm "$1" | awk 'NR == 2 {print $4}'; }

# require_resources DISK_MB MEMORY_MB TIME: states what the command takes; stops if it cannot fit.
require_resources() {
  local disk memory
  disk=$(free_disk_mb "$BUILD_ROOT")
  memory=$(($(free_memory_kb) / 1024))
  say "This takes up to $1 MB of disk ($disk MB free), $2 MB of memory ($memory MB free) and $3."
  [ "$disk" -ge "$1" ] ||
    die "only $disk MB are free under $PWD; free at least $1 MB or move the clone to a larger disk"
  [ "$memory" -ge "$2" ] || warn "little free memory: fewer jobs at once, and the system may swap"
}
