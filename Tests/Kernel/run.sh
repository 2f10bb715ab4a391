#!/bin/bash
# The kernel lane: every test here runs in a fresh guest. SELVAGE names the binary, SELVAGE_TESTS the test bundle.
set -u
cd "$(dirname "$0")" || exit 1
failed=0
run() {
    echo "== $*"
    ./uml -t 720 "$@" || { failed=1; echo "FAILED  $*"; }
}
SELVAGE_ENGINE=kernel run "$SELVAGE_TESTS" --testing-library swift-testing --filter ConformanceTests
run bash two-hosts.sh gre
run bash two-hosts.sh vxlan
run bash firewall.sh
run bash nat.sh
run bash groups.sh
run bash restart.sh
run bash labs.sh
# The tests of labs, with the kernel's datapath. A guest has one CPU and stands still at times: hence more room than elsewhere.
export DATAPATH=kernel
MOST=100 run bash ../Lab/migrate.sh "$SELVAGE"
MOST=200 run bash ../Lab/wander.sh "$SELVAGE"
MOST=5 run bash ../Lab/asymmetric.sh "$SELVAGE"
# The guest sends 15 Mbit/s of small packets when it has a bad day.
run bash ../Lab/multicast.sh "$SELVAGE"
MOST=100 run bash ../Lab/services.sh "$SELVAGE"
OFFERED=6 LIMIT=2 run bash ../Lab/mirrors.sh "$SELVAGE"
LEAST=2400 run bash ../Lab/records.sh "$SELVAGE"
RATE=8 PROMISED=4 run bash ../Lab/promises.sh "$SELVAGE"
EGRESS=6 INGRESS=4 OFFERED=12 FREE=8 CHANGED=9 run bash ../Lab/qos.sh "$SELVAGE"
# A guest that stands still, as when a node starts, does so for longer than neighbors wait who ask every 75 ms.
BFD=250 HOLD=9 STILL=1000 QUICK=3000 SLOW=4000 EVERY=20 CONNECTIONS=4 run bash ../Lab/gateways.sh "$SELVAGE"
MOST=250 run bash ../Lab/segments.sh "$SELVAGE"
MOST=250 run bash ../Lab/vteps.sh "$SELVAGE"
MOST=400 SLOW=1000 run bash ../Lab/evpn.sh "$SELVAGE"
EVERY=50 CONNECTIONS=1 MOST=2500 run bash ../Lab/underlay.sh "$SELVAGE"
EVERY=50 CONNECTIONS=1 MOST=2500 SHORT=1 run bash ../Lab/fabric.sh "$SELVAGE"
LEAST=200 run bash ../Lab/balance.sh "$SELVAGE"
exit $failed
