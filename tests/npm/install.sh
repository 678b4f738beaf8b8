#!/usr/bin/env bash
# tests/npm/install.sh FOLDER INSTALL_DIR [NPM_OPTION...]: installs the packages of
# FOLDER/package.json, as its package-lock.json has them if there is one, into INSTALL_DIR (once;
# later runs need no network).
set -euo pipefail
folder=$1 install_dir=$2
shift 2

for program in node npm; do
  command -v "$program" >/dev/null || {
    echo "$program is not installed; on Debian: apt-get install nodejs npm" >&2
    exit 1
  }
done

if [ -f "$folder/package-lock.json" ]; then
  list=package-lock.json command=(ci)
else
  list=package.json command=(install --no-package-lock)
fi
mkdir -p "$install_dir"
exec 9>"$install_dir/lock" # several tests may start at once
flock 9
cmp -s "$folder/$list" "$install_dir/installed-$list" && exit
cp "$folder"/package*.json "$install_dir/"
cd "$install_dir"
npm "${command[@]}" --no-audit --no-fund --ignore-scripts "$@" || {
  echo "npm could not install the packages of $folder; it needs the npm registry" >&2
  exit 1
}
cp "$list" "installed-$list"
