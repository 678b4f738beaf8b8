#!/usr/bin/env bash
# tests/npm/run.sh NAME INSTALL_DIR ARGUMENTS...: installs the packages of package-lock.json into
# INSTALL_DIR (once; later runs need no network) and runs NAME.test.js with the arguments.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=$1 install_dir=$2
shift 2

for program in node npm; do
  command -v "$program" >/dev/null || {
    echo "npm test $name: $program is not installed; on Debian: apt-get install nodejs npm" >&2
    exit 1
  }
done

mkdir -p "$install_dir"
(
  flock 9 # several tests may start at once
  if ! cmp -s "$here/package-lock.json" "$install_dir/installed-lock.json"; then
    cp "$here/package.json" "$here/package-lock.json" "$install_dir/"
    (cd "$install_dir" && npm ci --no-audit --no-fund --ignore-scripts)
    cp "$here/package-lock.json" "$install_dir/installed-lock.json"
  fi
) 9>"$install_dir/lock"

NODE_PATH="$install_dir/node_modules" exec node "$here/$name.test.js" "$@"
