# install_packages GROUP...: installs what is missing of these groups of packages.txt with apt-get.
# Talks to apt only when dpkg-query says that something is missing: later runs need no network.

APT_LOCK_SECONDS=600

# missing_packages GROUP...: prints the packages of the groups that are not installed.
missing_packages() {
  local group package command installed wanted=" $* "
  installed=" $(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null |
    awk '$1 == "installed" {printf "%s ", $2}')"
  while read -r group package command; do
    case $wanted in *" $group "*) ;; *) continue ;; esac
    case $installed in *" $package "*) continue ;; esac
    [ -z "$command" ] || ! command -v "$command" >/dev/null || continue
    echo "$package"
  done <tools/bootstrap/packages.txt
}

# as_root COMMAND...: directly for root, else through sudo.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Makes sure as_root can work without asking later; may ask for a password once, on a terminal.
acquire_root() {
  [ "$(id -u)" -ne 0 ] || return 0
  local advice="run as root: apt-get install --no-install-recommends $*"
  command -v sudo >/dev/null ||
    die "packages are missing, and this is neither root nor a user with sudo; $advice"
  sudo -n true 2>/dev/null && return 0
  [ -t 0 ] || die "packages are missing and sudo asks for a password; $advice"
  say "sudo is needed to install packages"
  sudo -v || die "sudo refused; $advice"
}

apt() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q \
    -o DPkg::Lock::Timeout=$APT_LOCK_SECONDS -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

# apt_waiting ARGUMENTS...: apt, but also waits for the locks that apt's own timeout does not cover
# (package lists, archive cache).
apt_waiting() {
  local deadline=$((SECONDS + APT_LOCK_SECONDS)) output status
  output=$(mktemp)
  while true; do
    apt "$@" 2>&1 | tee "$output"
    status=${PIPESTATUS[0]}
    if [ "$status" -eq 0 ] || [ "$SECONDS" -ge "$deadline" ] ||
      ! grep -qE 'Could not get lock|Unable to lock' "$output"; then
      break
    fi
    echo "waiting for another package manager to finish"
    sleep 5
  done
  rm -f "$output"
  return "$status"
}

# A broken third-party source must not stop us, so failure here is left to the install to report.
update_package_lists() {
  local attempt
  for attempt in 1 2 3; do
    apt_waiting update -o APT::Update::Error-Mode=any && return 0
    echo "apt-get update failed (attempt $attempt of 3)"
    sleep $((attempt * 5))
  done
  return 0
}

# Installs from the present lists if they know everything, else (or on failure: a version may have
# moved on) after an update and after completing what an interrupted dpkg left half done.
install_or_update() {
  if apt -s install --no-install-recommends "$@" >/dev/null 2>&1; then
    apt_waiting install --no-install-recommends "$@" && return 0
  fi
  update_package_lists
  as_root env DEBIAN_FRONTEND=noninteractive dpkg --configure -a
  apt_waiting install --no-install-recommends "$@"
}

install_packages() {
  local missing
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    warn "no apt here: install the equivalents of tools/bootstrap/packages.txt by hand"
    return 0
  fi
  missing=$(missing_packages "$@" | tr '\n' ' ')
  [ -n "$missing" ] || return 0
  # shellcheck disable=SC2086  # one word a package
  set -- $missing
  acquire_root "$@"
  say "Installing $# packages: $*"
  STEP_TAIL_LINES=10 step "installing packages" \
    "Check the network and that /etc/apt lists Debian 12 (bookworm) main, then run this again." \
    install_or_update "$@" || exit 1
}
