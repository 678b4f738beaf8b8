#!/usr/bin/env bash
# tests/npm/run.sh NAME INSTALL_DIR ARGUMENTS...: installs the packages of package-lock.json into
# INSTALL_DIR and runs NAME.test.js with the arguments.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=$1 install_dir=$2
shift 2

"$here/install.sh" "$here" "$install_dir"
NODE_PATH="$install_dir/node_modules" exec node "$here/$name.test.js" "$@"
