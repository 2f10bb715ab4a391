#!/bin/bash
# Translated addresses between two hosts with a kernel datapath each.
#   nat.sh      (root, a kernel with openvswitch; SELVAGE=path of the binary)
set -u
cd "$(dirname "$0")" && . ./lib.sh
need tcpdump
cp nat.yaml "$WORK/net.yaml"
hypervisor h1; hypervisor h2; cable h1 h2
machine a h1 va 0e:00:00:00:00:0a 1458 10.0.1.11/24
machine b h2 vb 0e:00:00:00:00:0b 1458 10.0.1.12/24
machine c h2 vc 0e:00:00:00:00:0c 1458 203.0.113.80/24
ip -n a route add default via 10.0.1.1; ip -n b route add default via 10.0.1.1; ip -n c route add default via 203.0.113.1
cluster "$WORK/net.yaml" --datapath kernel
at() { ip netns exec "$@"; }
fails() { ! "$@"; }
serve() {   # serve MACHINE PORT: something listens there
    at "$1" iperf3 -s -D -p "$2" --pidfile "$WORK/iperf-$1-$2" >/dev/null
    wait_for 5 test -s "$WORK/iperf-$1-$2"
}
sees() {   # sees MACHINE FILTER COMMAND...: while the command runs, the machine gets a packet that the filter is for
    local machine=$1 filter=$2; shift 2
    at "$machine" timeout 10 tcpdump -Z root -nni eth0 -c 1 "$filter" >"$WORK/dump" 2>"$WORK/dump.err" &
    local dump=$!
    wait_for 5 grep -q 'listening on' "$WORK/dump.err" || return 1
    "$@" || return 1
    wait "$dump"
}
serve a 5201; serve b 5202; serve c 5201
# Ports come ahead of need.
wait_for 10 grep -q 203.0.113.5 <("$SELVAGE" state --socket "$WORK/h1.sock")

check "a machine is seen by its router's address" sees c 'icmp and src 203.0.113.5' at a ping -c 3 -i 0.2 -W 2 203.0.113.80
check "one with a floating address by that" sees c 'icmp and src 203.0.113.20' at b ping -c 3 -i 0.2 -W 2 203.0.113.80
check "the floating address answers" at c ping -c 3 -i 0.2 -W 2 203.0.113.20
check "TCP out, both ways through the kernel's flows" at a iperf3 -c 203.0.113.80 -t 2
check "TCP out, mostly backwards" at a iperf3 -R -c 203.0.113.80 -t 1
before=$(upcalls h1)
check "TCP to a forwarded port" at c iperf3 -c 203.0.113.10 -t 1
check "TCP to another one that leads to the same" at c timeout 3 bash -c 'echo >/dev/tcp/203.0.113.10/80'
check "TCP to a floating address" at c iperf3 -c 203.0.113.20 -p 5202 -t 1
check "TCP to a forwarded port from its own network" at b iperf3 -c 203.0.113.10 -t 1
check "a port that is not forwarded is reset" grep -q refused <(at c timeout 3 bash -c 'echo >/dev/tcp/203.0.113.10/22' 2>&1)
check "UDP out" at a iperf3 -u -l 1200 -b 5M -c 203.0.113.80 -t 1
check "UDP out, fragmented" at a iperf3 -u -l 4000 -b 2M -c 203.0.113.80 -t 1
check "a closed port's error comes back" grep -q refused <(at a timeout 3 bash -c 'exec 3<>/dev/udp/203.0.113.80/9; while echo a >&3; do sleep 0.05; done' 2>&1)
check "a forwarded port's error comes from the address that was asked" \
    grep -q refused <(at c timeout 3 bash -c 'exec 3<>/dev/udp/203.0.113.10/53; while echo a >&3; do sleep 0.05; done' 2>&1)
check "traceroute out" grep -q ' 203\.0\.113\.80 ' <(at a traceroute -n -q 1 -w 2 203.0.113.80)
check "traceroute in, to a floating address" grep -q ' 203\.0\.113\.20 ' <(at c traceroute -n -q 1 -w 2 203.0.113.20)
check "path MTU discovery through translation" grep -q 'pmtu 1458' <(at a tracepath -n 203.0.113.80)
check "two pings of one identifier" at a sh -c 'ping -e 77 -c 3 -i 0.2 -W 2 203.0.113.80 & ping -e 77 -c 3 -i 0.2 -W 2 203.0.113.1 && wait $!'
check "hosts list what is translated" grep -q '203.0.113.5:.* > 203.0.113.80:5201' <("$SELVAGE" state --socket "$WORK/h2.sock")
ports() { for host in h1 h2; do "$SELVAGE" state --socket "$WORK/$host.sock"; done | awk '/^ *t\/gw +[0-9.]+ +[0-9]+ / { for (i = 4; i <= NF; i++) print $2, $i }'; }
check "both hosts have ports of the address" test "$(ports | grep -c '^203.0.113.5 ')" -ge 2
check "and never the same" test -z "$(ports | sort | uniq -d)"

refused=$("$SELVAGE" datapath --socket "$WORK/h1.sock" --json | sed -n '/"refused"/{n;s/[^0-9]*\([0-9]*\).*/\1/p}')
check "the kernel refused nothing" test "$refused" = 0
[ "$refused" = 0 ] || "$SELVAGE" datapath --socket "$WORK/h1.sock" | grep -i refus
for file in "$WORK"/iperf-*; do kill "$(tr -d '\0' <"$file")"; done
finish
