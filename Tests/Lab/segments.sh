#!/bin/bash
# A bridge that reaches two networks outside, each by two hosts: one port of each segment carries, frames come once, and a cable, a
# node or a host's underlay may go while stations here and there go on talking.
#   segments.sh BINARY        MOST=80 (lost pings of 10 ms in a row)
lab=test-segments; . "$(dirname "$0")/lib.sh"
most=${MOST:-80}
cp "$here/../../cluster-examples/office.yaml" "$work/net.yaml"
up
# carriers WORDS...: the ports that carry, as the hosts say now.
carriers() {
    local _ port
    for _ in $(seq 100); do
        cat /run/selvage-labs/$lab/h?.log | grep -o 'acme/[a-z]*/[a-z]*[0-9] carries.*segment' >"$work/out"
        for port in "$@"; do [ "$(grep "$port" "$work/out" | tail -1)" = "$port carries for its segment" ] || { sleep 0.1; continue 2; }; done
        return 0
    done
    fail "$* do not carry"
}
carriers acme/floor/wall1 acme/desk/cable1

# Who is asked, and by whom: from here to there, and from there to machines that say nothing themselves.
count=0
# Without -w: with it ping ends when its own kernel says that a station does not answer ARP, as while the node is gone that would carry it.
ask() { count=$((count + 1)); at "$1" ping -i 0.01 "$2" >"$work/ping.$count" 2>&1 & echo $! >"$work/ping.$count.job"; }
ask acme/office/vm1 10.0.1.50; ask acme/office/vm3 10.0.1.50; ask printer 10.0.1.12; ask acme/desk/vm4 10.0.2.50; ask scanner 10.0.1.13
for n in $(seq $count); do says "$work/ping.$n" "icmp_seq=50 " || fail "ping $n is not answered"; done
# stretch WORDS [N...]: none of them, or of these, lost more in a row than may be since the last time.
marks=(0 0 0 0 0 0)
stretch() {
    local words=$1 n worst=0 gap last
    shift
    for n in ${*:-$(seq $count)}; do
        last=$(sed -n 's/.*icmp_seq=\([0-9]*\).*/\1/p' "$work/ping.$n" | tail -1)
        gap=$(awk -v p="${marks[$n]}" '/bytes from/ && match($0, /icmp_seq=[0-9]+/) { n = substr($0, RSTART + 9, RLENGTH - 9) + 0; if (n < p) next; if (p && n - p > m) m = n - p; p = n } END { print m - 1 }' "$work/ping.$n")
        marks[$n]=$last
        [ "$gap" -gt "$worst" ] && worst=$gap
    done
    echo "$words: $worst pings of 10 ms lost in a row"
    [ "$worst" -le "$most" ] || fail "$words: too many"
}
# goes_on [N...]: all, or these, are answered now.
goes_on() {
    local n seen
    for n in ${*:-$(seq $count)}; do
        seen=$(grep -c 'bytes from' "$work/ping.$n")
        for _ in $(seq 100); do [ "$(grep -c 'bytes from' "$work/ping.$n")" -ge $((seen + 20)) ] && continue 2; sleep 0.05; done
        fail "ping $n is answered no more"
    done
}
goes_on; stretch "as it is"

# One question is heard once, at every station; and nothing circles.
listen() { at "$1" timeout 60 tcpdump -Z root -lnei eth0 arp or vlan >"$work/$2" 2>"$work/$2.log" & says "$work/$2.log" listening || fail "nobody listens at $1"; }
# once FILE ADDRESS: the question for it comes, and does not come again.
once() {
    says "$work/$1" "who-has $2 " 50 || { cp "$work/$1" "$work/out"; fail "the question for $2 does not come"; }
    sleep 0.5
    [ "$(grep -c "who-has $2 " "$work/$1")" = 1 ] || { cp "$work/$1" "$work/out"; fail "the question for $2 comes again"; }
}
listen printer heard; sniffer=$!
listen acme/office/vm3 back; other=$!
quietly at acme/office/vm1 arping -c 1 -w 1 -I eth0 10.0.1.99
once heard 10.0.1.99
quietly at printer arping -c 1 -w 1 -I vlan100 10.0.1.98
once back 10.0.1.98
kill $sniffer $other 2>/dev/null

quietly at h1 ip link set lan0 down
carriers acme/floor/wall2
goes_on; stretch "the first cable is cut"
"$selvage" trace acme/office/vm3 'icmp to 10.0.1.50' --lab $lab >"$work/out" 2>&1
grep -q 'out .*acme/floor/wall2' "$work/out" || fail "it is not said which port is taken"
quietly at h1 ip link set lan0 up
carriers acme/floor/wall1
goes_on; stretch "it is back"

quietly "$selvage" lab partition h2 h1,h3 --lab $lab || fail "h2 can't be cut off"
says /run/selvage-labs/$lab/h3.log "acme/desk/cable2 carries" || fail "h3 does not take over"
goes_on 1 4
quietly "$selvage" lab heal --lab $lab
carriers acme/desk/cable1
goes_on
if grep -l DUP "$work"/ping.*; then fail "answers came twice"; fi
for n in $(seq $count); do marks[$n]=$(sed -n 's/.*icmp_seq=\([0-9]*\).*/\1/p' "$work/ping.$n" | tail -1); done

quietly "$selvage" lab kill h1 --lab $lab
carriers acme/floor/wall2
goes_on 2 3
quietly "$selvage" lab start h1 --lab $lab || fail "h1 does not start"
goes_on
# One that stops as it should says so first: nobody waits to find out.
carriers acme/floor/wall1
sleep 1     # The time that is looked at.
for n in $(seq $count); do marks[$n]=$(sed -n 's/.*icmp_seq=\([0-9]*\).*/\1/p' "$work/ping.$n" | tail -1); done
quietly at h1 pkill -TERM -f "selvage node .*h1.data" || fail "h1 can't be stopped"
carriers acme/floor/wall2
goes_on 2 3
stretch "the node that carries is stopped" 2 3
quietly "$selvage" lab start h1 --lab $lab || fail "h1 does not start again"
goes_on
for n in $(seq $count); do kill "$(cat "$work/ping.$n.job")" 2>/dev/null; done
wait
echo passed
