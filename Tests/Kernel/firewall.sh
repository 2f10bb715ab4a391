#!/bin/bash
# A stateful firewall between two hosts with a kernel datapath each.
#   firewall.sh      (root, a kernel with openvswitch; SELVAGE=path of the binary)
set -u
cd "$(dirname "$0")" && . ./lib.sh
cp firewall.yaml "$WORK/net.yaml"
hypervisor h1; hypervisor h2; cable h1 h2
machine a h1 va 0e:00:00:00:00:0a 1458 10.0.1.11/24
machine c h2 vc 0e:00:00:00:00:0c 1458 10.0.2.21/24
ip -n a route add default via 10.0.1.1; ip -n c route add default via 10.0.2.1
cluster "$WORK/net.yaml" --datapath kernel
at() { ip netns exec "$@"; }
fails() { ! "$@"; }
serve() {   # serve MACHINE PORT: something listens there
    at "$1" iperf3 -s -D -p "$2" --pidfile "$WORK/iperf-$1-$2" >/dev/null
    wait_for 5 test -s "$WORK/iperf-$1-$2"
}
serve c 5201; serve a 8042; serve a 9000

check "what the machine begins is answered" at a ping -c 3 -i 0.2 -W 2 10.0.2.21
check "what others begin is not" fails at c ping -c 2 -i 0.2 -W 1 10.0.1.11
check "TCP from inside, both ways through the kernel's flows" at a iperf3 -c 10.0.2.21 -t 2
check "TCP from inside, mostly backwards" at a iperf3 -R -c 10.0.2.21 -t 1
before=$(upcalls h1)
check "TCP to a port in a range that is let in" at c iperf3 -c 10.0.1.11 -p 8042 -t 1
check "TCP to another port is reset at once" grep -q refused <(at c timeout 3 bash -c 'echo >/dev/tcp/10.0.1.11/9000' 2>&1)
check "UDP from inside, fragmented" at a iperf3 -u -l 4000 -b 5M -c 10.0.2.21 -t 1
check "a closed port's error comes back in" grep -q refused <(at a timeout 3 bash -c 'exec 3<>/dev/udp/10.0.2.21/9; while echo a >&3; do sleep 0.05; done' 2>&1)
check "flows carry connections: few packets are asked about" test $(($(upcalls h1) - before)) -le 400
check "hosts list the connection" grep -q '10.0.1.11.*10.0.2.21' <("$SELVAGE" state --socket "$WORK/h2.sock")

refused=$("$SELVAGE" datapath --socket "$WORK/h1.sock" --json | sed -n '/"refused"/{n;s/[^0-9]*\([0-9]*\).*/\1/p}')
check "the kernel refused nothing" test "$refused" = 0
[ "$refused" = 0 ] || "$SELVAGE" datapath --socket "$WORK/h1.sock" | grep -i refus
for file in "$WORK"/iperf-*; do kill "$(tr -d '\0' <"$file")"; done
finish
