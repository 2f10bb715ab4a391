#!/bin/bash
# Two hosts with a kernel datapath each and a tunnel between them: what crosses it, and what stays.
#   two-hosts.sh gre|vxlan      (root, a kernel with openvswitch; SELVAGE=path of the binary)
set -u
cd "$(dirname "$0")" && . ./lib.sh
TUNNEL=$1
sed "s/^tunnel:.*/tunnel: $TUNNEL/" two-hosts.yaml >"$WORK/net.yaml"
MTU=1458; [ "$TUNNEL" = vxlan ] && MTU=1450
hypervisor h1; hypervisor h2; cable h1 h2
machine a h1 va 0e:00:00:00:00:0a $MTU 10.0.1.11/24 fd00:1::11/64
machine b h2 vb 0e:00:00:00:00:0b $MTU 10.0.1.12/24 fd00:1::12/64
machine c h2 vc 0e:00:00:00:00:0c $MTU 10.0.2.21/24 fd00:2::21/64
for m in a b; do ip -n $m route add default via 10.0.1.1; ip -n $m -6 route add default via fd00:1::1; done
ip -n c route add default via 10.0.2.1; ip -n c -6 route add default via fd00:2::1
cluster "$WORK/net.yaml" --datapath kernel
at() { ip netns exec "$@"; }

check "$TUNNEL: the node drives the kernel's datapath" grep -q '"kind" : "kernel"' <("$SELVAGE" datapath --socket "$WORK/h1.sock" --json)
check "$TUNNEL: the egress flow of each port is installed before the first packet" \
    grep -q 'tun_id' <(at h2 ovs-dpctl dump-flows selvage)
before=$(upcalls h2)
check "$TUNNEL: ping across a bridge" at a ping -c 3 -i 0.2 -W 2 10.0.1.12
check "$TUNNEL: ping across a router" at a ping -c 3 -i 0.2 -W 2 10.0.2.21
check "$TUNNEL: ping -6 across a bridge" at a ping -6 -c 3 -i 0.2 -W 2 fd00:1::12
check "$TUNNEL: ping -6 across a router" at a ping -6 -c 3 -i 0.2 -W 2 fd00:2::21
check "$TUNNEL: fragments across a bridge" at a ping -c 2 -i 0.2 -W 2 -s 4000 -M dont 10.0.1.12
check "$TUNNEL: fragments across a router" at a ping -c 2 -i 0.2 -W 2 -s 4000 -M dont 10.0.2.21
check "$TUNNEL: IPv6 fragments across a router" at a ping -6 -c 2 -i 0.2 -W 2 -s 4000 fd00:2::21
check "$TUNNEL: tracepath finds the tunnel's MTU" grep -q "pmtu $MTU" <(at a tracepath -n 10.0.2.21)
check "$TUNNEL: traceroute sees the router" grep -q '10\.0\.1\.1 ' <(at a traceroute -n -w 2 10.0.2.21)
at b iperf3 -s -D --pidfile "$WORK/iperf-b" >/dev/null; at c iperf3 -s -D --pidfile "$WORK/iperf-c" >/dev/null
wait_for 5 test -s "$WORK/iperf-b"; wait_for 5 test -s "$WORK/iperf-c"
check "$TUNNEL: TCP across a bridge" at a iperf3 -c 10.0.1.12 -t 2
check "$TUNNEL: TCP across a router" at a iperf3 -c 10.0.2.21 -t 2
check "$TUNNEL: TCP over IPv6 across a router" at a iperf3 -6 -c fd00:2::21 -t 1
check "$TUNNEL: UDP across a router" at a iperf3 -u -b 20M -c 10.0.2.21 -t 1

check "$TUNNEL: arping" at a arping -c 2 -w 3 -I eth0 10.0.1.12

# A flow that is new at the ingress host must not be news at the egress host. A TTL of its own makes one. The
# machines there also probe their neighbors when they like, which is an upcall of their own: so each of several new
# flows is looked at, and one without any upcall is enough - were the egress host asked, each would have one.
asked=all
for ttl in 33 34 35 36; do
    before=$(upcalls h2)
    check "$TUNNEL: a new flow, by its TTL" at a ping -c 2 -i 0.2 -W 2 -t $ttl 10.0.2.21
    [ "$(upcalls h2)" -ne "$before" ] || { asked=; break; }
done
check "$TUNNEL: the egress host is not asked" test -z "$asked"

# A scan across a path that reads no ports is one flow, whatever it scans (and what neighbors ask each other meanwhile).
before=$(flows h1) received=$(at c cat /sys/class/net/eth0/statistics/rx_packets)
at a bash -c 'for port in $(seq 2000 2999); do echo scan >/dev/udp/10.0.2.21/$port; done' 2>/dev/null
after=$(flows h1)
check "$TUNNEL: the scan arrives" test $(($(at c cat /sys/class/net/eth0/statistics/rx_packets) - received)) -ge 900
check "$TUNNEL: a scan of 1,000 ports leaves $before flows at $after" test "$before" -gt 0 -a $((after - before)) -le 4

before=$("$SELVAGE" datapath --socket "$WORK/h1.sock" --json | sed -n '/"refused"/{n;s/[^0-9]*\([0-9]*\).*/\1/p}')
check "$TUNNEL: the kernel refused nothing" test "$before" = 0
[ "$before" = 0 ] || "$SELVAGE" datapath --socket "$WORK/h1.sock" | grep -i refus
kill "$(tr -d '\0' <"$WORK/iperf-b")" "$(tr -d '\0' <"$WORK/iperf-c")"
finish
