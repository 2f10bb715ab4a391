#!/bin/bash
# Hosts on two underlays: flows are shared among both, and a card, a switch, or one after the other may die while connections go
# on, translated ones included; nodes agree by what is left, too.
#   underlay.sh BINARY        MOST=1000 (milliseconds) CONNECTIONS=8
lab=test-underlay; . "$(dirname "$0")/lib.sh"
most=${MOST:-1000} connections=${CONNECTIONS:-8}
cp "$here/../../cluster-examples/two-underlays.yaml" "$work/net.yaml"
up

# tunnels STATE COUNT HOST: waits until so many of a host's tunnels are so.
tunnels() {
    local _
    for _ in $(seq 100); do
        "$selvage" tunnels --host "$3" --lab $lab >"$work/out" 2>&1
        [ "$(grep -c " $1 " "$work/out")" = "$2" ] && return
        sleep 0.1
    done
    fail "not $2 tunnels of $3 are $1"
}
for host in h1 h2 h3; do tunnels up 4 $host; done

. "$here/pairs.sh"
stretch "as it is"
read -r one two < <(share)
echo "h1 sent $one and $two bytes in a second by its two cards"
# Probes and what nodes tell each other are some thousand bytes a second.
[ "$one" -gt $((connections * 5000)) ] && [ "$two" -gt $((connections * 5000)) ] || fail "flows are not shared among both"

quietly at h1 ip link set eth1 down
tunnels down 2 h1
stretch "a card of h1 is dead"
says /run/selvage-labs/$lab/h2.log "the tunnel to h1 by 198.51.100.2 does not work: another one carries all" 20 || fail "h2 does not say so"
quietly at h1 ip link set eth1 up
tunnels up 4 h1
stretch "it is back"

{ "$selvage" export --lab $lab | sed 's/^tenants:/&\n  other: { bridges: { new: {} } }/'; } >"$work/more.yaml"
quietly "$selvage" lab partition --zone default h1 h2 h3 --lab $lab || fail "the switch can't be cut"
began=$(now)
tunnels down 2 h1
stretch "the first switch is dead"
# What was agreed on goes on: by the second one.
until "$selvage" apply "$work/more.yaml" --lab $lab >"$work/out" 2>&1; do
    [ $(($(now) - began)) -lt 15000 ] || fail "nothing can be changed"
    sleep 0.1
done
echo "changes can be made $(($(now) - began)) ms after that"
at acme/app/app2 python3 - >"$work/out" 2>&1 <<'P' || fail "new connections do not come about"
import socket
for host in 11, 13:
    s = socket.create_connection((f"10.0.2.{host}", 9000), timeout=2); s.send(b"x"); s.settimeout(2); assert s.recv(1) == b"x"
P
quietly at h2 ip link set eth0 down
stretch "so is a card that nobody needed"
quietly at h2 ip link set eth0 up
quietly "$selvage" lab heal --lab $lab || fail "the switch can't be healed"
for host in h1 h2 h3; do tunnels up 4 $host; done
stretch "all is well again"
# A guest that stands still does so for longer than probes wait.
[ "$most" -gt 1000 ] || ! grep -q "does not answer" /run/selvage-labs/$lab/h?.log || fail "a host was taken for dead"
"$selvage" get bridges --lab $lab >"$work/out" 2>&1
grep -q other/new "$work/out" || fail "the change is not there"
"$selvage" lab partition h1 h2,h3 --lab $lab >"$work/out" 2>&1
tunnels down 4 h1
grep -q "h2 does not answer" /run/selvage-labs/$lab/h1.log || fail "h1 does not say that h2 is gone"
echo passed
