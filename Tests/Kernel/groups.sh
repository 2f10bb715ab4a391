#!/bin/bash
# Security groups between two hosts with a kernel datapath each.
#   groups.sh      (root, a kernel with openvswitch; SELVAGE=path of the binary)
set -u
cd "$(dirname "$0")" && . ./lib.sh
need hping3 nmap
cp groups.yaml "$WORK/net.yaml"
hypervisor h1; hypervisor h2; cable h1 h2
machine a h1 va 0e:00:00:00:00:0a 1450 10.0.1.11/24
machine b h2 vb 0e:00:00:00:00:0b 1450 10.0.1.12/24
machine c h2 vc 0e:00:00:00:00:0c 1450 10.0.2.21/24
machine d h1 vd 0e:00:00:00:00:0d 1450 10.0.2.22/24
for m in a b; do ip -n $m route add default via 10.0.1.1; done; for m in c d; do ip -n $m route add default via 10.0.2.1; done
cluster "$WORK/net.yaml" --datapath kernel
at() { ip netns exec "$@"; }
fails() { ! "$@"; }
serve() {   # serve MACHINE PORT: something listens there
    at "$1" iperf3 -s -D -p "$2" --pidfile "$WORK/iperf-$1-$2" >/dev/null
    wait_for 5 test -s "$WORK/iperf-$1-$2"
}
serve a 5201; serve b 5201; serve c 5202; serve d 5201

check "members of a group reach each other" at a ping -c 3 -i 0.2 -W 2 10.0.1.12
check "others do not" fails at d ping -c 2 -i 0.2 -W 1 10.0.1.11
check "what is let in from anybody is" at d iperf3 -c 10.0.1.11 -t 1
check "what is let in from a group is, by the port that it comes from" at b iperf3 -c 10.0.2.21 -p 5202 -t 1
check "and not from others" fails timeout 3 ip netns exec d bash -c 'echo >/dev/tcp/10.0.2.21/5202'
check "machines send what they like" at a iperf3 -c 10.0.2.22 -t 1
check "unless their group says what" fails timeout 3 ip netns exec c bash -c 'echo >/dev/tcp/10.0.2.22/5201'
check "nmap sees one port" grep -qE '^5201/tcp open' <(at d nmap -n -Pn -sS -p 5190-5210 --max-retries 1 10.0.1.12)
check "and everything else filtered" fails grep -qE "closed|unfiltered" <(at d nmap -n -Pn -sS -p 5190-5210 --max-retries 1 10.0.1.12)
check "an ACK scan finds nothing" fails grep -q unfiltered <(at d nmap -n -Pn -sA -p 20-30 --max-retries 1 10.0.1.12)
ip -n b addr add 10.0.1.50/24 dev eth0; ip -n b addr add 10.0.1.51/24 dev eth0
check "an address that is allowed besides" at b ping -c 2 -i 0.2 -W 2 -I 10.0.1.50 10.0.1.11
check "and one that is not" fails at b ping -c 2 -i 0.2 -W 1 -I 10.0.1.51 10.0.1.11
at d hping3 -q -S --rand-source -p ++1 -i u2000 -c 500 10.0.1.11 >/dev/null 2>&1
check "a scan from anywhere leaves the flow table bounded" test "$(flows h1)" -lt 5000
check "rules are counted" grep -q 'group t/web .*rest' <("$SELVAGE" rules --socket "$WORK/h1.sock")

refused=$("$SELVAGE" datapath --socket "$WORK/h1.sock" --json | sed -n '/"refused"/{n;s/[^0-9]*\([0-9]*\).*/\1/p}')
check "the kernel refused nothing" test "$refused" = 0
for file in "$WORK"/iperf-*; do kill "$(tr -d '\0' <"$file")"; done
finish
