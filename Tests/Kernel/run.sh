#!/bin/bash
# The kernel lane: every test here runs in a fresh guest. SELVAGE names the binary.
set -u
cd "$(dirname "$0")" || exit 1
failed=0
for arguments in "two-hosts.sh gre" "two-hosts.sh vxlan" "restart.sh"; do
    echo "== $arguments"
    # shellcheck disable=SC2086
    ./uml -t 240 bash $arguments || { failed=1; echo "FAILED  $arguments"; }
done
exit $failed
