#!/bin/bash
# A bridge that goes on at VXLAN end points of others: two machines with the kernel's VXLAN, as hardware switches would have it, each
# of which knows the two hosts that lead there. One host carries at a time; stations are learned where they are, frames come once.
#   vteps.sh BINARY        MOST=80 (lost pings of 10 ms in a row)
lab=test-vteps; . "$(dirname "$0")/lib.sh"
most=${MOST:-80}
# Hosts h4 and h5 have nothing of the cluster's: their worlds are the switches of others.
cat >"$work/net.yaml" <<'YAML'
tunnel: gre
tenants:
  acme:
    bridges:
      app:
        subnet: 10.0.1.0/24
        ports:
          vm1: {}
          vm2: {}
          rack1: { host: h1, segment: rack, preference: 200, vxlan: { vni: 5000, vteps: [192.0.2.4, 192.0.2.5] } }
          rack2: { host: h2, segment: rack, vxlan: { vni: 5000, vteps: [192.0.2.4, 192.0.2.5] } }
lab:
  hosts: [h1, h2, h3, h4, h5]
  machines:
    acme/app/vm1: { host: h2, address: 10.0.1.11/24 }
    acme/app/vm2: { host: h3, address: 10.0.1.12/24 }
YAML
up
# leaf HOST ADDRESS: the switch there, and a station at it.
leaf() {
    local other=192.0.2.9; [ "$1" = h4 ] && other=192.0.2.5 || other=192.0.2.4
    quietly at "$1" sh -e -c "
        ip link add leaf type bridge; ip link add vx type vxlan id 5000 local 192.0.2.${1#h} dstport 4789
        for vtep in 192.0.2.1 192.0.2.2 $other; do bridge fdb append 00:00:00:00:00:00 dev vx dst \$vtep; done
        ip link set vx mtu 1450 master leaf; ip link set vx up; ip link set leaf mtu 1450; ip link set leaf up
        ip addr add $2/24 dev leaf" || fail "the switch at $1"
}
leaf h4 10.0.1.54; leaf h5 10.0.1.55
ping_ok() { at "$1" ping -c 3 -i 0.1 -w 5 "$2" >"$work/out" 2>&1 || fail "$1 does not reach $2"; }
for vm in vm1 vm2; do for station in 54 55; do ping_ok acme/app/$vm 10.0.1.$station; done; done
ping_ok h4 10.0.1.55; ping_ok h4 10.0.1.12
# The kernel has learned which end point each is at.
at h1 bridge fdb show >"$work/out" 2>&1
mac() { at "$1" ip -br link show leaf | awk '{ print $3 }'; }
for host in h4 h5; do
    grep -q "$(mac $host) dev selx.* dst 192.0.2.${host#h} " "$work/out" || fail "it is not known that $host has its station"
done
# Large packets go through, or are told to be smaller.
at acme/app/vm2 ping -c 2 -i 0.2 -w 3 -M do -s 1400 10.0.1.54 >"$work/out" 2>&1 || fail "large packets do not come"

at h5 timeout 60 tcpdump -Z root -lnei leaf arp >"$work/heard" 2>"$work/heard.log" & sniffer=$!
says "$work/heard.log" listening || fail "nobody listens"
quietly at acme/app/vm1 arping -c 1 -w 1 -I eth0 10.0.1.99
says "$work/heard" "who-has 10.0.1.99 " 50 || fail "the question does not come"
sleep 0.5
[ "$(grep -c "who-has 10.0.1.99 " "$work/heard")" = 1 ] || { cp "$work/heard" "$work/out"; fail "the question comes more than once"; }
kill $sniffer 2>/dev/null

at acme/app/vm2 ping -i 0.01 10.0.1.54 >"$work/ping.1" 2>&1 & one=$!
at h5 ping -i 0.01 10.0.1.11 >"$work/ping.2" 2>&1 & two=$!
for n in 1 2; do says "$work/ping.$n" "icmp_seq=50 " || fail "ping $n is not answered"; done
goes_on() {
    local n seen
    for n in 1 2; do
        seen=$(grep -c 'bytes from' "$work/ping.$n")
        for _ in $(seq 200); do [ "$(grep -c 'bytes from' "$work/ping.$n")" -ge $((seen + 20)) ] && continue 2; sleep 0.05; done
        fail "ping $n is answered no more"
    done
}
quietly "$selvage" lab kill h1 --lab $lab
says /run/selvage-labs/$lab/h2.log "acme/app/rack2 carries" || fail "h2 does not take over"
goes_on
quietly "$selvage" lab start h1 --lab $lab || fail "h1 does not start"
goes_on
# A new end point takes nothing from the others; one that goes is sent nothing.
"$selvage" export --lab $lab | sed 's/vteps: \[[^]]*\]/vteps: [192.0.2.4]/' >"$work/less.yaml"
quietly "$selvage" apply "$work/less.yaml" --lab $lab || fail "the change is not taken"
at h1 bridge fdb show >"$work/out" 2>&1
grep -q "00:00:00:00:00:00 dev selx.* dst 192.0.2.4 " "$work/out" || fail "the end point that stays is gone"
for _ in $(seq 50); do at h1 bridge fdb show >"$work/out" 2>&1; grep -q "00:00:00:00:00:00 dev selx.* dst 192.0.2.5 " "$work/out" || break; sleep 0.1; done
grep -q "00:00:00:00:00:00 dev selx.* dst 192.0.2.5 " "$work/out" && fail "the end point that went is there"
kill $one; goes_on_one=$(grep -c 'bytes from' "$work/ping.1"); [ "$goes_on_one" -gt 100 ] || fail "hardly a ping"
kill $two 2>/dev/null; wait
for n in 1 2; do
    gap=$(longest "$work/ping.$n" "$(sed -n 's/.*icmp_seq=\([0-9]*\).*/\1/p' "$work/ping.$n" | tail -1)")
    echo "ping $n: $gap of 10 ms lost in a row"
    [ "$gap" -le "$most" ] || fail "ping $n was cut off for too long"
done
# Without the port the interface goes.
for port in rack1 rack2; do quietly "$selvage" delete port acme/app/$port --lab $lab || fail "$port can't be removed"; done
for _ in $(seq 50); do at h1 ip link >"$work/out"; grep -q selx "$work/out" || break; sleep 0.1; done
grep -q selx "$work/out" && fail "the interface is left"
echo passed
