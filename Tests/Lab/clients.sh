#!/bin/bash
# Programs that we did not write, in a running lab.   clients.sh BINARY EXAMPLE LAB
set -eu
selvage=$1 example=$2 lab=$3
at() { local place=$1; shift; timeout 30 "$selvage" lab exec --lab "$lab" "$place" -- "$@"; }
say() { echo "-- $*"; }
capture() {   # capture HOST FILTER COUNT: starts tcpdump, returns when it listens
    timeout 20 "$selvage" lab exec --lab "$lab" "$1" -- tcpdump -Z root -nvi eth0 -c "$3" "$2" >"$dump" 2>"$dump.err" &
    tcpdump=$!
    for _ in $(seq 100); do grep -q 'listening on' "$dump.err" && return; read -rt 0.05 <> <(:) || true; done
    echo "tcpdump did not start"; cat "$dump.err"; exit 1
}
dump=$(mktemp); trap 'rm -f "$dump" "$dump.err"' EXIT
case $example in
    hello)
        say ping; at acme/web/vm1 ping -c 3 -i 0.2 10.0.1.12
        say large ping; at acme/web/vm1 ping -c 2 -i 0.2 -s 4000 -M dont 10.0.1.12
        say arping; at acme/web/vm1 arping -c 2 -I eth0 10.0.1.12
        say tcpdump sees GRE keys; capture h1 "proto gre" 4
        at acme/web/vm1 ping -c 4 -i 0.2 10.0.1.12; wait $tcpdump; grep -q 'GREv0, Flags \[key present\], key=0x' "$dump"
        say iperf3; at acme/web/vm2 iperf3 -s -1 -D; at acme/web/vm1 iperf3 -c 10.0.1.12 -t 1 | grep receiver
        say trace; "$selvage" trace --lab "$lab" acme/web/vm1 'icmp to 10.0.1.12' | grep '^verdict  forward'
        ;;
    two-tenants)
        say traceroute; at acme/db/sql traceroute -n -w 2 198.51.100.80 | tee "$dump"
        grep -q ' 10\.0\.2\.1 ' "$dump"; grep -q ' 100\.64\.0\.1 ' "$dump"; grep -q ' 198\.51\.100\.80 ' "$dump"
        say tracepath; at acme/web/vm1 tracepath -n 10.0.2.21 | tee "$dump"; grep -q 'pmtu 1458' "$dump"
        say administratively prohibited; { at acme/db/sql ping -c 1 -W 2 10.66.0.1 || true; } | grep -q 'Packet filtered'
        say iperf3 across a router; at acme/db/sql iperf3 -s -1 -D; at acme/web/vm1 iperf3 -c 10.0.2.21 -t 1 | grep receiver
        say iperf3 UDP; at acme/db/sql iperf3 -s -1 -D; at acme/web/vm1 iperf3 -u -b 10M -c 10.0.2.21 -t 1 | grep receiver
        ;;
    dual-stack)
        say ping -6; at acme/web/vm1 ping -6 -c 2 -i 0.2 fd00:2::21
        say large ping -6; at acme/web/vm1 ping -6 -c 2 -i 0.2 -s 4000 fd00:2::21
        say traceroute -6; at acme/web/vm1 traceroute -6 -n -w 2 fd00:2::21 | tee "$dump"; grep -q ' fd00:1::1 ' "$dump"
        say tcpdump sees VNIs; capture h1 "udp port 4789" 4
        at acme/web/vm1 ping -c 4 -i 0.2 10.0.2.21; wait $tcpdump; grep -q 'VXLAN, flags \[I\] (0x08), vni ' "$dump"
        say iperf3 -6; at acme/db/sql iperf3 -s -1 -D; at acme/web/vm1 iperf3 -6 -c fd00:2::21 -t 1 | grep receiver
        ;;
    firewall)
        say a rejected connection ends at once; { at acme/inside/office curl -sS -m 5 http://10.0.2.21:5432 2>&1 || true; } | tee "$dump"
        grep -q "Couldn't connect" "$dump"
        say a rejected ping is told so; { at acme/web/vm1 ping -c 1 -W 2 10.0.2.21 || true; } | grep -q 'Packet filtered'
        say a dropped one is not; { at acme/inside/guest curl -sS -m 2 http://10.0.1.11:22 2>&1 || true; } | grep -q 'timed out'
        say fragments of a tracked ping; at acme/db/sql ping -c 2 -i 0.2 -s 4000 -M dont 198.51.100.77
        say iperf3 through the rules; at acme/inside/guest iperf3 -s -1 -D -p 9000; at acme/web/vm1 iperf3 -c 198.51.100.77 -p 9000 -t 1 | grep receiver
        say UDP to a closed port is told through the rules
        at acme/web/vm1 traceroute -n -w 2 -q 1 198.51.100.77 | tee "$dump"; grep -q ' 198\.51\.100\.77 ' "$dump"
        say an answer to nothing is not let in
        { at acme/inside/guest traceroute -n -w 1 -q 1 -m 4 10.0.1.11 || true; } | tee "$dump"; ! grep -q ' 10\.0\.1\.11 ' "$dump"
        say trace; "$selvage" trace --lab "$lab" acme/inside/guest 'tcp 198.51.100.77:4000 > 10.0.1.11:22' | tee "$dump"
        grep -q 'rest: drop' "$dump"
        ;;
esac
