#!/bin/bash
# Hosts in a routed network, at addresses of none of their cards: flows are shared among both routers next to them; a card, a router,
# its daemons, or the host's own may die while connections go on. The host's routing daemon outlives the node.
#   fabric.sh BINARY        MOST=1000 (milliseconds) AGAIN=MOST LONG=3000 CONNECTIONS=8, SHORT=1: only what is of the data path
lab=test-fabric; . "$(dirname "$0")/lib.sh"
most=${MOST:-1000} connections=${CONNECTIONS:-8}
cp "$here/../../cluster-examples/routed-underlay.yaml" "$work/net.yaml"
up
files=/run/selvage-labs/$lab
# sessions COUNT HOST: waits until so many of a host's sessions are there and watched.
sessions() {
    local _
    for _ in $(seq 300); do
        "$selvage" bgp status --host "$2" --lab $lab >"$work/out" 2>&1
        [ "$(grep -c ' established .* up ' "$work/out")" = "$1" ] && return
        sleep 0.1
    done
    fail "not $1 sessions of $2 are there"
}
# ways COUNT HOST: waits until the host has so many ways to both others.
ways() {
    local _
    for _ in $(seq 300); do
        at "$2" ip route show proto bird >"$work/out" 2>&1
        [ "$(grep -c "via 10\.24" "$work/out")" = $((2 * $1)) ] && return
        sleep 0.1
    done
    fail "$2 has not $1 ways to each other host"
}
for host in h1 h2 h3; do sessions 2 $host; ways 2 $host; done
grep -q "src 192.0.2.3" "$work/out" || fail "what begins at a host has another address of it"
for host in h1 h2 h3; do at $host ip address show dev lo | grep -q "192.0.2.${host#h}/32" || fail "$host has not its address"; done
. "$here/pairs.sh"
stretch "as it is"
read -r one two < <(share)
echo "h1 sent $one and $two bytes in a second by its two cards"
# What nodes tell each other and BFD are some thousand bytes a second.
least=$((connections * 50000 / ${EVERY:-10}))
[ "$one" -gt $least ] && [ "$two" -gt $least ] || fail "flows are not shared among both"

quietly at h1 ip link set eth1 down
ways 1 h1
stretch "a card of h1 is dead"
quietly at h1 ip link set eth1 up
sessions 2 h1; ways 2 h1
stretch "it is back"

# A router hears nothing any more, and says so to nobody.
silence leaf2 "$files/outside/leaf2/" h1 h2 h3 || fail "leaf2 hears all the same"
for host in h1 h2 h3; do ways 1 $host; done
stretch "a router is silent"
"$selvage" bgp status --lab $lab >"$work/out" 2>&1
grep -q '^10\.249.*BFD' "$work/out" || fail "the reason is not told"
heard leaf2 "$files/outside/leaf2/" h1 h2 h3 || fail "leaf2 hears nothing more"
for host in h1 h2 h3; do sessions 2 $host; ways 2 $host; done
# A router says where it leads before its own kernel is told.
stretch "it is there again"

if [ -z "${SHORT:-}" ]; then
    quietly "$selvage" lab kill leaf1 --lab $lab || fail "lab kill leaf1"
    for host in h1 h2 h3; do ways 1 $host; done
    stretch "a router's daemons are killed"
    quietly "$selvage" lab start leaf1 --lab $lab || fail "lab start leaf1"
    for host in h1 h2 h3; do sessions 2 $host; ways 2 $host; done
    stretch "they are started again"
fi

pid=$(pgrep -f "bird -c $files/h1.data/underlay") || fail "h1 has no routing daemon"
kill -9 "$pid"
for _ in $(seq 100); do "$selvage" bgp status --host h1 --lab $lab 2>&1 | grep -q 'daemon ended 1 times' && break; sleep 0.1; done
sessions 2 h1; ways 2 h1
grep -q 'daemon ended 1 times' "$work/out" || "$selvage" bgp status --host h1 --lab $lab | grep -q 'daemon ended 1 times' || fail "it is not told that the daemon ended"
most=${AGAIN:-$most} stretch "the host's routing daemon is killed, and started again"

[ -z "${SHORT:-}" ] || { echo passed; exit; }
# It is none of the node's business whether the host is reached.
pid=$(pgrep -f "bird -c $files/h1.data/underlay")
quietly "$selvage" lab kill h1 --lab $lab || fail "lab kill h1"
ways 2 h1; ways 2 h2
quietly at h2 ping -c 2 -i 0.2 -w 5 192.0.2.1 || fail "the host of a node that was killed is not reached"
quietly "$selvage" lab start h1 --lab $lab || fail "lab start h1"
[ "$(pgrep -f "bird -c $files/h1.data/underlay")" = "$pid" ] || fail "the routing daemon is another one"
sessions 2 h1
most=${LONG:-3000} stretch "a node was killed and started again"

# Who is refused changes nothing.
pid=$(pgrep -f "bird -c $files/h1.data/underlay")
at h1 "$selvage" node --data "$files/h1.data" --socket "$work/second.sock" >"$work/out" 2>&1 && fail "two nodes have one directory"
[ "$(pgrep -f "bird -c $files/h1.data/underlay")" = "$pid" ] || fail "the second node ended the first one's daemon"
at h1 ip address show dev lo >"$work/out" || fail ip
grep -q 192.0.2.1/32 "$work/out" || fail "the second node took the first one's address"

# Who was told of no underlay ends what is there of one.
quietly "$selvage" lab kill h3 --lab $lab || fail "lab kill h3"
rm "$files/h3.data/underlay.yaml" || fail "join has not kept what it was told"
at h3 "$selvage" node --data "$files/h3.data" --socket "$files/h3.sock" >"$work/alone" 2>&1 & alone=$!
says "$work/alone" "the daemon of an earlier run ends" || { cp "$work/alone" "$work/out"; fail "it is not told that the daemon ends"; }
for _ in $(seq 100); do at h3 ip address show dev lo | grep -q 192.0.2.3 || break; sleep 0.1; done
at h3 ip address show dev lo >"$work/out" || fail ip
grep -q 192.0.2.3 "$work/out" && fail "the address is there still"
at h3 ip route show proto bird >"$work/out" || fail ip
[ -s "$work/out" ] && fail "routes are there still"
pgrep -f "bird -c $files/h3.data/underlay" >"$work/out" && fail "the daemon is there still"
quietly at h3 pkill -KILL -f "node --data $files/h3.data"; wait $alone
# Another one would take away what ours tells the kernel.
echo 'protocol device { }' >"$work/other.conf"
at h3 bird -f -c "$work/other.conf" -s "$work/other.ctl" >"$work/other" 2>&1 & other=$!
for _ in $(seq 100); do [ -S "$work/other.ctl" ] && break; sleep 0.1; done
"$selvage" lab start h3 --lab $lab >"$work/out" 2>&1 && fail "two daemons route for one host"
grep -q 'another BIRD runs on this host, process' "$work/out" || fail "it is not told that another one runs"
at h3 pkill -f "bird -f -c $work/other.conf"; wait $other
quietly "$selvage" lab start h3 --lab $lab || fail "lab start h3"
sessions 2 h3; ways 2 h3

# Bad input is told with its place before anything is done.
printf 'loopback: 192.0.2.300\nas: 0\npeers: [{ address: 10.0.0.1 }]\nnexthop: 1\n' >"$work/bad.yaml"
"$selvage" node --data "$work/none" --underlay "$work/bad.yaml" >"$work/out" 2>&1 && fail "a file that is wrong is taken"
grep -q 'bad.yaml:1:11: underlay: loopback "192.0.2.300" is not an address' "$work/out" && grep -q 'bad.yaml:2:5: underlay: as is "0"' "$work/out" &&
    grep -q '"nexthop" is not known here' "$work/out" || fail "it is not told what is wrong"
echo passed
