#!/bin/bash
# Two hosts with uplinks to two providers (FRRouting, GoBGP): to them it is one router, and connections through it live on while
# a provider, an uplink, a node, a host's way to the others or a daemon is gone, and when it is there again.
#   gateways.sh BINARY    in the environment: CONNECTIONS (12 each way), DAEMON (bird: of the uplinks), BFD (75) and HOLD (3) of uplinks;
#                         milliseconds: STILL QUICK SLOW
lab=test-gateways; . "$(dirname "$0")/lib.sh"
connections=${CONNECTIONS:-12}
sed -e '/^  expect:/,$d' "$here/../../cluster-examples/multihomed.yaml" >"$work/net.yaml"
sed -i "s/^\( *\)interface: isp.$/&\n\1daemon: ${DAEMON:-bird}/; s/\[75, 3\]/[${BFD:-75}, 3]/; s/hold: 3,/hold: ${HOLD:-3},/" "$work/net.yaml"
# One more machine, on the host without uplinks, asks from there.
status() { "$selvage" bgp status --lab $lab "$@"; }
# sessions COUNT [TENTHS]: waits until so many are established.
sessions() {
    local _
    for _ in $(seq "${2:-300}"); do [ "$(status 2>/dev/null | grep -c ' established ')" = "$1" ] && return 0; sleep 0.1; done
    status >"$work/out" 2>&1; return 1
}
# isp1_serves yes|no: whether that provider has a way to the server's network; it lives on without.
isp1_serves() {
    local _ no="" ways=0
    [ "$1" = yes ] && no="no " ways=1
    quietly at isp1 vtysh --vty_socket $files/isp1 -c 'configure terminal' -c 'router bgp 65100' -c "${no}neighbor 100.127.0.254 shutdown"
    for _ in $(seq 300); do
        [ "$(at isp1 ip route show 198.51.100.0/24 | grep -c via)" = $ways ] && return
        sleep 0.1
    done
    return 1
}
began=$(now)
up
upped=$(now)
sessions 4 100 || fail "sessions are not up within 10 s of lab up"
echo "sessions up $(($(now) - upped)) ms after lab up, which took $((upped - began)) ms"

# One router: one system in the path, and equal ways to all of its uplinks.
for _ in $(seq 100); do [ "$(at outside ip route show 203.0.113.0/24 | grep -c nexthop)" = 2 ] && break; sleep 0.1; done
at outside ip route show 203.0.113.0/24 | tee "$work/out" | grep -c 'nexthop' | grep -q 2 || fail "the server has not two ways"
for _ in $(seq 100); do [ "$(at isp1 ip route show 203.0.113.0/24 | grep -c 'nexthop via 100.64')" = 2 ] && break; sleep 0.1; done
for isp in isp1 isp2; do
    at $isp ip route show 203.0.113.0/24 >"$work/out"
    [ "$(grep -c 'nexthop via 100.64' "$work/out")" = 2 ] || fail "$isp has not both hosts as equal ways"
done
files=/run/selvage-labs/$lab/outside
at isp1 vtysh --vty_socket $files/isp1 -c 'show bgp ipv4 unicast 203.0.113.0/24' >"$work/out" 2>&1 || fail vtysh
[ "$(grep -c '^  65001$' "$work/out")" -ge 2 ] || fail "isp1 sees another path than 65001"
at isp2 gobgp --target unix://$files/isp2/gobgp.sock global rib 203.0.113.0/24 >"$work/out" 2>&1 || fail gobgp
[ "$(grep -c ' 65001 ' "$work/out")" = 2 ] || fail "isp2 sees another path than 65001"
# What the hosts without uplinks go by.
"$selvage" trace acme/web/www2 'icmp to 198.51.100.10' --lab $lab >"$work/out" || fail trace
grep -q 'provider/edge.*198.51.100.0/24 via 100.64' "$work/out" || fail "h3 does not go by a learned route"
at acme/web/www2 traceroute -n -I -w 1 -q 1 -m 6 198.51.100.10 >"$work/out" 2>&1 || fail traceroute
grep -q '100\.64\.[12]\.[15] ' "$work/out" && grep -q ' 198.51.100.10 ' "$work/out" || fail "traceroute does not name a provider"
at isp1 ping -c 2 -i 0.2 -w 5 100.64.1.2 >"$work/out" || fail "the uplink's address does not answer"
at isp1 arping -c 2 -w 5 -I link0 100.64.1.2 >"$work/out" 2>&1 || fail "the uplink's address does not answer ARP"

# Connections both ways: from the machines by translation, and to them by the virtual address; datagrams to the floating one.
at outside python3 "$here/talkers.py" serve 9000 >"$work/outside" 2>&1 &
for who in www1 www2; do at acme/web/$who python3 "$here/talkers.py" serve 8080 >"$work/$who" 2>&1 & done
for who in outside www1 www2; do says "$work/$who" ready || fail "no server at $who"; done

# What leaves by either host comes back by the second alone: from the first packet on, none is sent twice.
for isp in isp1 isp2; do
    back=100.64.2.$([ $isp = isp1 ] && echo 2 || echo 6)
    at $isp ip route add 203.0.113.0/24 via $back metric 5 || fail "no way by the second host"
done
cat >"$work/ask.py" <<'PY'
import socket
def sent_again():
    names, values = [line.split() for line in open("/proc/net/snmp") if line.startswith("Tcp:")]
    return int(values[names.index("RetransSegs")])
before = sent_again()
for _ in range(40):
    with socket.create_connection(("198.51.100.10", 9000), timeout=5) as s:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
print("sent again", sent_again() - before)
PY
# from_link NUMBER: packets that providers had by their links of that number.
from_link() { for isp in isp1 isp2; do at $isp cat /proc/net/dev; done | awk -v name="link$1:" '$1 == name { sum += $3 } END { print sum }'; }
for who in www1 www2; do
    first=$(from_link 0)
    at acme/web/$who python3 "$work/ask.py" >"$work/out" 2>&1 || fail "$who does not reach the server"
    grep -q '^sent again 0$' "$work/out" || fail "return traffic by the other host is lost at first"
    # Each connection takes five packets or more.
    [ $(($(from_link 0) - first)) -ge 50 ] || fail "nothing of $who left by the first host: $(($(from_link 0) - first)) packets"
done
for isp in isp1 isp2; do at $isp ip route del 203.0.113.0/24 metric 5 || fail "the way is not taken back"; done
mkfifo "$work/up" "$work/down"
at acme/web/www1 python3 "$here/talkers.py" talk 198.51.100.10 9000 "$connections" 198.51.100.10 9000 <"$work/up" >"$work/snat" 2>&1 &
exec 4>"$work/up"
at outside python3 "$here/talkers.py" talk 203.0.113.80 80 "$connections" 203.0.113.20 8080 <"$work/down" >"$work/vip" 2>&1 &
exec 5>"$work/down"
for way in snat vip; do says "$work/$way" connected || { cp "$work/$way" "$work/out"; fail "no connections: $way"; }; done

# stretch NAME MOST: how long nothing went since the last one, milliseconds, no connection lost. TCP asks again after 200 ms or
# somewhat more, then after twice that: what a connection sees lasts for up to two gaps and a pause.
count=0
stretch() {
    local way alive dead worst gap line=""
    count=$((count + 1))
    echo >&4; echo >&5
    for way in snat vip; do
        for _ in $(seq 100); do [ "$(grep -c stretch "$work/$way")" -ge $count ] && break; sleep 0.1; done
        read -r _ _ alive _ dead _ worst _ gap < <(grep stretch "$work/$way" | tail -1)
        line="$line $way $gap ms (TCP $worst)"
        { [ "${dead:-1}" = 0 ] && [ "$alive" = "$connections" ]; } || { status >"$work/out"; fail "$1: $way lost ${dead:-all} connections"; }
        [ "$gap" -le "$2" ] && [ "$worst" -le $((2 * $2 + 500)) ] ||
            { status >"$work/out"; fail "$1: $way was silent for $gap ms, $2 at most, its connections for $worst ms"; }
    done
    echo "$1:$line"
}
still=${STILL:-400}
sleep 2     # The time that is looked at.
stretch "nothing happens" $still

# BFD of three times 75 ms: 300 ms in all, and what two busy cores take. Without BFD a second.
quick=${QUICK:-400} slow=${SLOW:-1000}
# A provider's router is without power: nothing tells but that it is silent.
for _ in $(seq 300); do [ "$(status | grep -c ' established .* up ')" = 2 ] && break; sleep 0.1; done
[ "$(status | grep -c ' established .* up ')" = 2 ] || { status >"$work/out"; fail "BFD does not see the provider"; }
silence isp1 "$files/isp1/" link0 link1 exchange || fail "isp1 hears all the same"
sleep 4
stretch "a provider is silent" $quick
sessions 2 || fail "sessions with the silent provider are still there"
status | grep '100.64.1.1 ' | grep -q 'BFD' || { status >"$work/out"; fail "the reason is not told"; }
heard isp1 "$files/isp1/" link0 link1 exchange || fail "isp1 hears nothing more"
sessions 4 || fail "the provider is not heard again"
sleep 3
stretch "it is there again" $still

quietly "$selvage" lab kill isp2 --lab $lab || fail "lab kill isp2"
sleep 4
stretch "a provider's daemons are killed" $slow
quietly "$selvage" lab start isp2 --lab $lab || fail "lab start isp2"
sessions 4 || fail "the provider is not heard again"
sleep 3
# It says where it leads before its own kernel is told.
stretch "they are started again" $slow

at h1 ip link set isp1 down; at h1 ip link set isp2 down
sleep 4
stretch "both uplinks of a host are down" $slow
at h1 ip link set isp1 up; at h1 ip link set isp2 up
sessions 4 || fail "the uplinks are not there again"
sleep 3
stretch "they are up again" $still

case ${DAEMON:-bird} in bird) program="bird -f -c " ;; frr) program="bgpd -f .*" ;; esac
pids=$(pgrep -f "$program/run/selvage-labs/$lab/h1.data") || fail "h1 has no routing daemons"
for pid in $pids; do kill -9 "$pid"; done
sleep 4
stretch "a host's routing daemons are killed" $slow
sessions 4 || fail "the daemons are not started again"
status --host h1 | grep -q 'daemon ended 1 times' || { status >"$work/out"; fail "it is not told that the daemon ended"; }

quietly "$selvage" lab partition h1 h2,h3 --lab $lab || fail partition
sleep 5
stretch "a host with uplinks is cut off from the others" $slow
status --host h1 | grep -q 'announces nothing' || { status >"$work/out"; fail "the host that is cut off announces still"; }
quietly "$selvage" lab heal --lab $lab || fail heal
for _ in $(seq 300); do status --host h1 | grep -q 'announces 203.0.113.0/24' && break; sleep 0.1; done
status --host h1 >"$work/out"; grep -q 'announces 203.0.113.0/24' "$work/out" || fail "it does not announce again"
sleep 3
stretch "it is connected again" 1000

quietly "$selvage" lab kill h1 --lab $lab || fail "lab kill h1"
sleep 7
stretch "a node with uplinks is killed" $slow
# What one of its uplinks led to is not reached by it any more, and nobody is there to hear that.
isp1_serves no || fail "isp1 does not let go of the server"
quietly "$selvage" lab start h1 --lab $lab || fail "lab start h1"
sessions 4 || fail "the node's sessions are not there again"
sleep 3
stretch "it is there again, and a provider has lost its way meanwhile" $slow
isp1_serves yes || fail "isp1 does not reach the server again"
sleep 3
stretch "that has its way again" $slow
# It comes back while its last words are still being said.
quietly "$selvage" lab kill h1 --lab $lab && quietly "$selvage" lab start h1 --lab $lab || fail "lab start h1"
sessions 4 || fail "the node's sessions are not there again at once"
sleep 3
stretch "it is killed, and started at once" $slow
"$selvage" export --lab $lab | sed 's/as: \["65200"\]/&, metric: ["5"]/' >"$work/new.yaml"
grep -q metric "$work/new.yaml" || fail "the manifest was not changed as meant"
since() { status --json | python3 -c 'import json, sys
print(sorted((p["address"], p["state"], p.get("sinceMilliseconds")) for h in json.load(sys.stdin).values() for u in h for p in u["peers"]))'; }
before=$(since)
quietly "$selvage" apply "$work/new.yaml" --wait --lab $lab || fail "apply"
sleep 1
status >"$work/out"; [ "$(since)" = "$before" ] || fail "sessions do not live on"
grep -q 'does not answer\|problem:' "$work/out" && fail "a daemon can't be told any more"
exec 4>&- 5>&-
echo passed
