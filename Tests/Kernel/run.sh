#!/bin/bash
# The kernel lane: every test here runs in a fresh guest. SELVAGE names the binary, SELVAGE_TESTS the test bundle.
# A guest has one CPU: where this machine has more, two run beside each other, but for those that play routers of a whole underlay:
# what they do takes as long as neighbors wait for. What one said is told when it has ended.
set -u
cd "$(dirname "$0")" || exit 1
work=$(mktemp -d)
# Guests end by themselves with their `uml`, which removes what it made.
trap 'code=$?; trap "" TERM; kill $(jobs -rp) 2>/dev/null; wait; rm -rf "$work"; exit $code' EXIT
trap 'exit 130' INT TERM HUP
count=0
run() {
    while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do wait -n; done
    count=$((count + 1))
    guest "$work/$count" "$@" &
}
guest() {   # guest OUTPUT COMMAND...
    local output=$1 began=$SECONDS uml=; shift
    trap '[ -n "$uml" ] && kill $uml; wait; exit 130' TERM
    ./uml -t 720 "$@" >"$output" 2>&1 & uml=$!
    wait $uml || { echo "FAILED  $*" >>"$output"; touch "$work/failed"; }
    { flock 9; echo "== $* ($((SECONDS - began)) s)"; cat "$output"; } 9>"$work/lock"
}

at_once=$(($(nproc) > 1 ? 2 : 1))
run bash labs.sh
SELVAGE_ENGINE=kernel run "$SELVAGE_TESTS" --testing-library swift-testing --filter ConformanceTests
run bash two-hosts.sh gre
run bash two-hosts.sh vxlan
run bash firewall.sh
run bash nat.sh
run bash groups.sh
run bash restart.sh
# The tests of labs, with the kernel's datapath. A guest has one CPU and stands still at times: hence more room than elsewhere.
export DATAPATH=kernel
# A guest that stands still, as when a node starts, does so for longer than neighbors wait who ask every 75 ms.
BFD=250 HOLD=9 STILL=1000 QUICK=3000 SLOW=4000 EVERY=20 CONNECTIONS=4 run bash ../Lab/gateways.sh "$SELVAGE"
MOST=250 run bash ../Lab/segments.sh "$SELVAGE"
MOST=250 run bash ../Lab/vteps.sh "$SELVAGE"
MOST=400 SLOW=1000 run bash ../Lab/evpn.sh "$SELVAGE"
RATE=8 PROMISED=4 run bash ../Lab/promises.sh "$SELVAGE"
EGRESS=6 INGRESS=4 OFFERED=12 FREE=8 CHANGED=9 run bash ../Lab/qos.sh "$SELVAGE"
MOST=100 run bash ../Lab/migrate.sh "$SELVAGE"
MOST=200 run bash ../Lab/wander.sh "$SELVAGE"
LEAST=2400 run bash ../Lab/records.sh "$SELVAGE"
MOST=5 run bash ../Lab/asymmetric.sh "$SELVAGE"
# The guest sends 15 Mbit/s of small packets when it has a bad day.
run bash ../Lab/multicast.sh "$SELVAGE"
MOST=100 run bash ../Lab/services.sh "$SELVAGE"
OFFERED=6 LIMIT=2 run bash ../Lab/mirrors.sh "$SELVAGE"
LEAST=200 run bash ../Lab/balance.sh "$SELVAGE"

at_once=1
EVERY=50 CONNECTIONS=1 MOST=2500 run bash ../Lab/underlay.sh "$SELVAGE"
# Where it takes longer than BFD to start a host's routing daemon again, its sessions begin anew.
EVERY=50 CONNECTIONS=1 MOST=2500 AGAIN=6000 SHORT=1 run bash ../Lab/fabric.sh "$SELVAGE"
wait
[ ! -e "$work/failed" ]
