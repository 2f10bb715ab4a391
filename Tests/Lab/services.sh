#!/bin/bash
# Service chaining with a firewall of the kernel's: a machine that is a wire between two ports (a Linux bridge, filtered by nftables, or by tc)
# and one with a single port that sends all back (hairpin). tcpdump there sees both ways with the service's VLAN; what the
# firewall drops does not arrive; a firewall that goes down stops traffic, or is passed by, at once; and comes back.
#   services.sh BINARY
lab=test-services; . "$(dirname "$0")/lib.sh"
cat >"$work/net.yaml" <<'YAML'
tunnel: vxlan
tenants:
  acme:
    bridges:
      web:
        subnet: 10.0.1.0/24
        ports:
          www: { services: [{ through: [fw/inside, fw/outside], vlan: 10 }, { through: fw/ids, match: [{ protocol: icmp }] }] }
          open: { services: [{ through: [fw/inside, fw/outside], vlan: 20, fail: open }] }
          plain: {}
      clients: { subnet: 10.0.2.0/24, ports: [laptop] }
      fw: { ports: [inside, outside, ids] }
    routers:
      gw: { links: [{ bridge: web }, { bridge: clients }] }
lab:
  hosts: [h1, h2, h3]
  machines:
    acme/web/www: { host: h1, address: 10.0.1.11/24 }
    acme/web/open: { host: h1, address: 10.0.1.12/24 }
    acme/web/plain: { host: h2, address: 10.0.1.13/24 }
    acme/clients/laptop: { host: h2, address: 10.0.2.21/24 }
    acme/fw/inside: { host: h3, wire: fw/outside }
    acme/fw/ids: { host: h2 }
YAML
up
# A machine with one interface that sends back what comes.
quietly at acme/fw/ids sh -e -c 'ip link add br0 type bridge; ip link set eth0 master br0; bridge link set dev eth0 hairpin on
    for i in br0 eth0; do echo 1 >/proc/sys/net/ipv6/conf/$i/disable_ipv6; done; ip link set br0 up' || fail "the hairpin"
capture() { # PLACE INTERFACE FILE FILTER...: what comes there, until the end
    local place=$1 interface=$2 file=$3; shift 3
    at "$place" timeout 900 tcpdump -U --immediate-mode -l -n -e -i "$interface" "$@" >"$file" 2>"$file.err" &
    says "$file.err" 'listening on' || fail "tcpdump at $place: $(cat "$file.err")"
}
capture acme/fw/inside eth0 "$work/inside"
capture acme/fw/inside eth1 "$work/outside"
capture acme/fw/ids eth0 "$work/ids"
for place in acme/clients/laptop acme/web/plain acme/web/open; do
    at $place ping -c 2 -i 0.2 -w 10 10.0.1.11 >"$work/out" || fail "$place does not reach www through its services"
done
at acme/web/www ping -c 2 -i 0.2 -w 10 10.0.1.12 >"$work/out" || fail "www does not reach open"
for file in inside outside; do
    says "$work/$file" 'vlan 10,.*10.0.2.21 > 10.0.1.11: ICMP echo request' || fail "no requests at $file: $(cat "$work/$file")"
    says "$work/$file" 'vlan 10,.*10.0.1.11 > 10.0.2.21: ICMP echo reply' || fail "no answers at $file"
    says "$work/$file" 'vlan 20,.*10.0.1.12 > 10.0.1.11: ICMP echo request' || fail "open's requests do not pass $file"
done
says "$work/ids" '10.0.2.21 > 10.0.1.11: ICMP echo request' || fail "no requests at the one with a single port"
# What machines say of themselves is learned where they are, not where services are.
"$selvage" trace --lab $lab acme/web/www 'icmp to 10.0.2.21' | tee "$work/out" | grep 'goes through acme/fw/inside with VLAN 10' || fail "trace does not tell"
"$selvage" trace --lab $lab acme/clients/laptop 'icmp to 10.0.1.11' | tee "$work/out" | grep 'goes through acme/fw/ids' || fail "trace does not tell of the way back"
# It is a firewall that filters.
at acme/web/www sh -c 'while :; do socat -u TCP-LISTEN:23,fork,reuseaddr /dev/null; done' >/dev/null 2>&1 &
at acme/web/www sh -c 'while :; do socat -u TCP-LISTEN:80,fork,reuseaddr /dev/null; done' >/dev/null 2>&1 &
connects() { at acme/clients/laptop timeout 3 socat -u OPEN:/dev/null "TCP:10.0.1.11:$1,connect-timeout=1" >"$work/out" 2>&1; }
for port in 23 80; do
    for _ in $(seq 50); do connects $port && break; sleep 0.1; done
    connects $port || fail "port $port is not reached"
done
quietly at acme/fw/inside nft "add table bridge fw; add chain bridge fw pass { type filter hook forward priority 0; }; \
    add rule bridge fw pass vlan id 10 tcp dport 23 counter drop" || quietly at acme/fw/inside sh -e -c 'tc qdisc add dev eth1 ingress
    tc filter add dev eth1 parent ffff: protocol all u32 match ip protocol 6 0xff match ip dport 23 0xffff action drop' || fail "no filter"
connects 23 && fail "the firewall does not filter"
connects 80 || fail "port 80 is not reached through the firewall"
# Whole segments pass, with the tag and through tunnels.
at acme/web/www iperf3 -s -1 --forceflush >"$work/server" 2>&1 &
says "$work/server" 'listening' || fail iperf3
at acme/clients/laptop iperf3 -t 3 -c 10.0.1.11 --forceflush >"$work/out" 2>&1 || fail "iperf3 through the firewall"
grep receiver "$work/out"
# The firewall goes down: what must go through it stops, what may go past it does, and both come back.
ping_while() { # TARGET FILE: pings until the file's job is ended
    at acme/clients/laptop ping -n -i 0.02 -c "$3" "$1" >"$2" 2>&1
}
ping_while 10.0.1.12 "$work/open" 200 & opened=$!
says "$work/open" 'icmp_seq=20 ' || fail "open is not reached: $(tail -3 "$work/open")"
at acme/fw/inside ip link set eth0 down
wait $opened
gap=$(longest "$work/open" 200)
echo "past a firewall that went down: $gap pings of 20 ms lost"
[ "$gap" -lt "${MOST:-25}" ] || fail "$gap pings were lost: $(cat "$work/open")"
at acme/clients/laptop ping -c 2 -i 0.2 -W 1 10.0.1.11 >"$work/out" && fail "a firewall that is down is passed"
"$selvage" trace --lab $lab acme/web/www 'udp to 10.0.2.21:9' >"$work/out"; grep -q 'service down' "$work/out" || fail "trace does not say why"
"$selvage" status --lab $lab --host h3 >"$work/out" 2>&1; grep 'nothing goes through acme/fw/inside' "$work/out" || fail "status of its host does not tell"
at acme/fw/inside ip link set eth0 up
for _ in $(seq 100); do at acme/clients/laptop ping -c 1 -W 1 10.0.1.11 >"$work/out" && break; done
at acme/clients/laptop ping -c 2 -i 0.2 -W 2 10.0.1.11 >"$work/out" || fail "a firewall that is back passes nothing"
grep -c 'vlan 20' "$work/outside" >"$work/before"
at acme/clients/laptop ping -c 1 -W 2 10.0.1.12 >"$work/out" || fail "open is not reached any more"
for _ in $(seq 50); do [ "$(grep -c 'vlan 20' "$work/outside")" -gt "$(cat "$work/before")" ] && break; sleep 0.1; done
[ "$(grep -c 'vlan 20' "$work/outside")" -gt "$(cat "$work/before")" ] || fail "a firewall that is back is passed by"
# Its host is cut off.
ping_while 10.0.1.12 "$work/open" 300 & opened=$!
says "$work/open" 'icmp_seq=20 ' || fail "open is not reached: $(tail -3 "$work/open")"
at h3 ip link set eth0 down
wait $opened
gap=$(longest "$work/open" 300)
echo "past a firewall whose host is gone: $gap pings of 20 ms lost"
[ "$gap" -lt "${MOST:-75}" ] || fail "$gap pings were lost: $(cat "$work/open")"
echo passed
