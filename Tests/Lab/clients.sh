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
dump=$(mktemp); trap 'rm -f "$dump" "$dump.err" "$dump.yaml" "$dump.go"' EXIT
examples=$(dirname "$0")/cluster-examples; [ -d "$examples" ] || examples=$(dirname "$0")/../../cluster-examples
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
    nat)
        say what the other side sees; capture acme/internet/server 'icmp and src 203.0.113.5 or src 203.0.113.6' 2
        at acme/web/vm1 ping -c 3 -i 0.2 203.0.113.80; wait $tcpdump
        say curl through a forwarded port; at acme/web/vm1 sh -c 'cd /etc && exec python3 -m http.server 8080 >/dev/null 2>&1' & server=$!
        for _ in $(seq 50); do at acme/internet/client curl -sf -m 2 -o /dev/null http://203.0.113.10/hostname && break; read -rt 0.1 <> <(:) || true; done
        at acme/internet/client curl -sS -m 5 http://203.0.113.10/hostname | grep -q .
        say the same from inside, and from its own machine; for who in web/vm2 db/sql web/vm1; do at acme/$who curl -sS -m 5 -o /dev/null http://203.0.113.10/hostname; done
        kill $server 2>/dev/null || true
        say another port is refused at once; { at acme/internet/client curl -sS -m 5 http://203.0.113.10:22 2>&1 || true; } | grep -q "Couldn't connect"
        say two pings of one identifier; at acme/web/vm1 ping -e 77 -c 4 -i 0.2 203.0.113.80 & other=$!
        at acme/db/sql ping -e 77 -c 4 -i 0.2 203.0.113.80; wait $other
        say large pings, in fragments; at acme/web/vm1 ping -c 2 -i 0.2 -s 4000 203.0.113.80; at acme/internet/client ping -c 2 -i 0.2 -s 4000 203.0.113.20
        say traceroute out, and to a floating address; at acme/web/vm1 traceroute -n -w 2 -q 1 203.0.113.80 | tee "$dump"; grep -q ' 203\.0\.113\.80 ' "$dump"
        at acme/internet/client traceroute -n -w 2 -q 1 203.0.113.20 | tee "$dump"; grep -q ' 203\.0\.113\.20 ' "$dump"
        say the error of a forwarded port comes from the address that was asked
        at acme/internet/client traceroute -n -w 2 -q 1 -U -p 53 203.0.113.10 | tee "$dump"; grep -q ' 203\.0\.113\.10 ' "$dump"; ! grep -q ' 10\.0\.' "$dump"
        say arping of an address that is translated; at acme/internet/client arping -c 2 -I eth0 203.0.113.10
        say iperf3 through translation; at acme/internet/server iperf3 -s -1 -D; at acme/db/sql iperf3 -c 203.0.113.80 -t 1 | grep receiver
        say state; "$selvage" state --lab "$lab" 203.0.113.80 | tee "$dump" | tail -n 3; grep -q 'acme/edge .*203\.0\.113\.1' "$dump"
        say trace; "$selvage" trace --lab "$lab" acme/internet/client 'tcp to 203.0.113.10:80' | tee "$dump"; grep -q 'is 10\.0\.1\.11:8080' "$dump"
        ;;
    load-balancer)
        say web servers of three machines; servers=
        for number in 1 2 3; do
            at shop/web/www$number sh -c "cd \$(mktemp -d) && echo www$number >name && exec timeout 60 python3 -m http.server 8080 --bind :: >/dev/null 2>&1" & servers="$servers $!"
        done
        for number in 1 2 3; do
            for _ in $(seq 50); do at shop/internet/visitor curl -sf -m 2 -o /dev/null http://10.0.1.1$number:8080/name && break; read -rt 0.1 <> <(:) || true; done
        done
        say checks find them
        for _ in $(seq 100); do "$selvage" member --lab "$lab" shop/www >"$dump"; [ "$(grep -c ' up *answered with status 200' "$dump")" = 3 ] && break; read -rt 0.1 <> <(:) || true; done
        cat "$dump"; [ "$(grep -c ' up *answered with status 200' "$dump")" = 3 ]
        say curl comes to each by its weight, and to none that is drained
        at shop/internet/client sh -c 'for n in $(seq 90); do curl -sS -m 5 http://203.0.113.10/name; done' | sort | uniq -c | tee "$dump"
        awk '{ n[$2] = $1 } END { exit !(n["www1"] >= 28 && n["www1"] <= 32 && n["www2"] >= 58 && n["www2"] <= 62 && n["www3"] == 0) }' "$dump"
        say from the servers\' own network, and from a server itself; for who in admin www1 www2; do at shop/web/$who curl -sS -m 5 http://203.0.113.10:8003/name; done
        say curl -6; at shop/internet/client curl -sS -m 5 'http://[2001:db8::10]/name' | grep www1
        say what nobody serves is refused at once
        { at shop/internet/client curl -sS -m 5 http://203.0.113.11/ 2>&1 || true; } | tee "$dump"; grep -q "Couldn't connect" "$dump"
        { at shop/internet/client dig +tries=1 +time=5 @203.0.113.11 example.org 2>&1 || true; } | tee "$dump"; grep -q "refused" "$dump"
        say arping and ping of a virtual address; at shop/internet/client arping -c 2 -I eth0 203.0.113.10; at shop/internet/client ping -c 2 -i 0.2 203.0.113.10
        say state; "$selvage" state --lab "$lab" 203.0.113.10 | tee "$dump" | tail -n 3; grep -q 'shop/edge .*203\.0\.113\.10' "$dump"
        say trace takes nobody\'s turn; for _ in 1 2 3; do "$selvage" trace --lab "$lab" shop/internet/client 'tcp to 203.0.113.10:80' | grep 'is 10\.0\.1\.1[12]:8080, pool www, by turns'; done | sort -u | tee "$dump"; [ "$(wc -l <"$dump")" = 1 ]
        say iperf3; at shop/web/www2 iperf3 -s -1 -D -p 9000; at shop/internet/client iperf3 -c 203.0.113.10 -p 9000 -t 1 | grep receiver
        say a server that is drained gets nothing new; "$selvage" member shop/www 10.0.1.12:8080 --state drain --wait --lab "$lab"
        "$selvage" get pool shop/www --lab "$lab" | tee "$dump"; grep -q '10.0.1.12 *8080 *2 *drain' "$dump"
        at shop/internet/client sh -c 'for n in $(seq 10); do curl -sS -m 5 http://203.0.113.10/name; done' | sort | uniq -c | tee "$dump"; grep -q '10 www1' "$dump"
        say one is added, and takes its turns; "$selvage" member shop/www 10.0.1.13:8080 --state up --weight 1 --wait --lab "$lab"
        at shop/internet/client sh -c 'for n in $(seq 10); do curl -sS -m 5 http://203.0.113.10/name; done' | sort | uniq -c | tee "$dump"; grep -q '5 www3' "$dump"
        say a member that is not there is told so; { "$selvage" member shop/www 10.0.1.99:8080 --state up --lab "$lab" 2>&1 || true; } | grep 'is no member of shop/www: it has 10.0.1.11:8080'
        # shellcheck disable=SC2086
        kill $servers 2>/dev/null || true
        ;;
    security-groups)
        say nmap finds what is let in and nothing else
        at acme/inside/guest nmap -n -Pn -sS -p 1-1000 --min-rate 1000 --max-retries 2 10.0.1.11 | tee "$dump"; grep -q '998 filtered' "$dump"
        for scan in -sA -sF -sX; do
            say nmap $scan; at acme/inside/guest nmap -n -Pn $scan -p 20-60 --max-retries 1 10.0.2.21 | tee "$dump"; grep -q 'filtered' "$dump"; ! grep -qE '/tcp +(open|closed|unfiltered) ' "$dump"
        done
        say nmap -sU; at acme/inside/guest nmap -n -Pn -sU -p 50-60 --max-retries 1 10.0.1.11 | tee "$dump"; ! grep -qE '/udp +(open|closed) ' "$dump"
        say the flow table is bounded; [ "$("$selvage" flows --lab "$lab" --json | grep -c '"ingress"')" -lt 20000 ]
        say a stranger\'s address goes nowhere; { at acme/web/vm1 sh -c 'ip addr add 10.0.1.99/24 dev eth0; ping -c 1 -W 1 -I 10.0.1.99 198.51.100.77; code=$?; ip addr del 10.0.1.99/24 dev eth0; exit $code' || echo stopped; } | grep -q stopped
        say one that is allowed does; at acme/db/sql1 sh -c 'ip addr add 10.0.2.50/24 dev eth0; ping -c 2 -i 0.2 -W 2 -I 10.0.2.50 10.0.2.22; code=$?; ip addr del 10.0.2.50/24 dev eth0; exit $code'
        say a connection outlives the group that let it begin
        at acme/web/vm1 sh -c 'exec python3 -c "
import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind((\"\", 443)); s.listen()
c, _ = s.accept()
while c.recv(10): c.send(b\"y\")
"' & server=$!
        mkfifo "$dump.go"; at acme/inside/guest python3 -c '
import socket, sys, time
for _ in range(50):
    s = socket.socket(); s.settimeout(3)
    try: s.connect(("10.0.1.11", 443)); break
    except OSError: time.sleep(0.1)
s.send(b"x"); assert s.recv(10) == b"y"; print("open", flush=True)
sys.stdin.readline(); s.send(b"x"); assert s.recv(10) == b"y"; print("still", flush=True)
' <"$dump.go" >"$dump" & client=$!
        exec 4>"$dump.go"; for _ in $(seq 100); do grep -q open "$dump" && break; read -rt 0.1 <> <(:) || true; done
        sed '/id: http/d' "$examples/security-groups.yaml" >"$dump.yaml"; "$selvage" lab apply --lab "$lab" "$dump.yaml"
        echo go >&4; exec 4>&-; wait $client; cat "$dump"; grep -q still "$dump"; kill $server 2>/dev/null || true; rm -f "$dump.go"
        say and no other begins; { at acme/inside/guest curl -sS -m 2 http://10.0.1.11:443 2>&1 || true; } | grep -q 'timed out'
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
