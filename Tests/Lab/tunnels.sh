#!/bin/bash
# Tunnels that die while everything else goes on: both ends know it in 300 ms, and know when they work again.
#   tunnels.sh BINARY
lab=test-tunnels; . "$(dirname "$0")/lib.sh"
# state FROM TO: how FROM sees its tunnel to TO, and when that began, in milliseconds.
state() {
    "$selvage" tunnels --lab $lab --json 2>/dev/null | python3 -c '
import json, sys
answer = sys.stdin.read()
for tunnel in json.loads(answer or "{}").get(sys.argv[1], []):
    if tunnel["host"] == sys.argv[2]:
        print(tunnel["state"], tunnel["sinceMilliseconds"])' "$1" "$2"
}
# becomes FROM TO STATE SECONDS: waits for it; leaves in $since when it did.
becomes() {
    local deadline=$(($(now) + $4 * 1000)) seen
    while [ "$(now)" -lt $deadline ]; do
        seen=$(state "$1" "$2")
        since=${seen#* }
        [ "${seen% *}" = "$3" ] && return 0
        sleep 0.1
    done
    quietly "$selvage" tunnels --lab $lab
    fail "the tunnel from $1 to $2 is not $3"
}
for tunnel in gre vxlan; do
    cat >"$work/net.yaml" <<YAML
tunnel: $tunnel
tenants: { acme: { bridges: { web: { subnet: 10.0.1.0/24, ports: [one, two, three] } } } }
lab:
  hosts: [h1, h2, h3]
  machines:
    acme/web/one: { host: h1, address: 10.0.1.11/24 }
    acme/web/two: { host: h2, address: 10.0.1.12/24 }
    acme/web/three: { host: h3, address: 10.0.1.13/24 }
  expect: [acme/web/one reaches acme/web/two]
YAML
    quietly "$selvage" lab up "$work/net.yaml" --lab $lab || fail "$tunnel: lab up"
    for a in h1 h2 h3; do for b in h1 h2 h3; do [ $a = $b ] || becomes $a $b up 5; done; done
    # What carries tenants' packets is cut in one direction, and nothing else is.
    match=gre; [ $tunnel = vxlan ] && match="udp 4789"
    filter h2
    # shellcheck disable=SC2086
    cut=$(now); lossy h2 1 $match; done=$(now)
    for pair in "h1 h2" "h2 h1" "h3 h2"; do
        set -- $pair
        becomes "$1" "$2" down 5
        echo "$tunnel: $1 knew of its tunnel to $2 at most $((since - cut)) ms after the cut began, $((since - done)) after it ended"
        [ $((since - done)) -lt 300 ] || fail "$tunnel: $1 knew it too late"
    done
    becomes h1 h3 up 1
    "$selvage" cluster list --lab $lab | grep -q dead && fail "$tunnel: a node is dead to the others"
    "$selvage" trace acme/web/one 'icmp to 10.0.1.12' --lab $lab | grep -q 'does not answer through its tunnel' || fail "$tunnel: trace does not tell"
    healed=$(now); sound h2
    for pair in "h1 h2" "h2 h1" "h3 h2"; do
        set -- $pair
        becomes "$1" "$2" up 5
        [ $((since - healed)) -lt 2500 ] || fail "$tunnel: $1 knew late that its tunnel works"
    done
    at acme/web/one ping -c 1 -W 2 10.0.1.12 >/dev/null || fail "$tunnel: ping"
    # A node that is killed says nothing, one that ends says so.
    cut=$(now); "$selvage" lab kill h3 --lab $lab >/dev/null; done=$(now)
    becomes h1 h3 down 5
    [ $((since - done)) -lt 300 ] || fail "$tunnel: the end of h3 was known late"
    "$selvage" lab start h3 --lab $lab >/dev/null
    becomes h1 h3 up 10; becomes h3 h2 up 10
    "$selvage" lab down --lab $lab >/dev/null
done
echo "dead tunnels are known in time"
