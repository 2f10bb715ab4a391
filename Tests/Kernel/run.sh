#!/bin/bash
# The kernel lane: every test here runs in a fresh guest. SELVAGE names the binary, SELVAGE_TESTS the test bundle.
set -u
cd "$(dirname "$0")" || exit 1
failed=0
run() {
    echo "== $*"
    ./uml -t 240 "$@" || { failed=1; echo "FAILED  $*"; }
}
SELVAGE_ENGINE=kernel run "$SELVAGE_TESTS" --testing-library swift-testing --filter ConformanceTests
run bash two-hosts.sh gre
run bash two-hosts.sh vxlan
run bash firewall.sh
run bash nat.sh
run bash groups.sh
run bash restart.sh
exit $failed
