#!/bin/bash
# A node is killed without warning: the kernel goes on forwarding, and the next run takes over without a gap.
set -u
cd "$(dirname "$0")" && . ./lib.sh
hypervisor h1; hypervisor h2; cable h1 h2
machine a h1 va 0e:00:00:00:00:0a 1458 10.0.1.11/24
machine b h2 vb 0e:00:00:00:00:0b 1458 10.0.1.12/24
machine c h2 vc 0e:00:00:00:00:0c 1458 10.0.2.21/24
ip -n a route add default via 10.0.1.1; ip -n c route add default via 10.0.2.1
cluster two-hosts.yaml --datapath kernel
at() { ip netns exec "$@"; }
check "ping before" at a ping -c 2 -i 0.2 -W 2 10.0.2.21

# One ping all the way through: 20 a second for 15 seconds, not one may be lost.
at a ping -i 0.05 -c 300 -W 1 10.0.2.21 >"$WORK/ping" 2>&1 &
ping=$!
wait_for 5 grep -q 'icmp_seq=20 ' "$WORK/ping"
kill -9 "${NODE[h1]}"; wait "${NODE[h1]}" 2>/dev/null
check "installed flows forward while the node is dead" at c ping -c 3 -i 0.2 -W 2 10.0.1.11
flows_dead=$(flows h1)
wait_for 10 grep -q 'icmp_seq=80 ' "$WORK/ping"
node h1 --datapath kernel
check "the next run keeps the flows" test "$flows_dead" -gt 2 -a "$(flows h1)" -ge $((flows_dead - 1))
wait_for 20 grep -q 'icmp_seq=160 ' "$WORK/ping"
check "new flows are decided again" at a ping -c 2 -i 0.2 -W 2 10.0.1.12
wait $ping
check "the running ping lost nothing" grep -q ' 0% packet loss' "$WORK/ping"
grep 'packet loss' "$WORK/ping"
finish
