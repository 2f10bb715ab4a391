#!/bin/bash
# Router advertisements with real clients: rdisc6 is told of the network, the kernel makes itself an address and a default
# route and reaches another network by them, hears of changes without asking, and a machine in another tenant hears nothing.
#   slaac.sh BINARY
lab=test-slaac; . "$(dirname "$0")/lib.sh"
cat >"$work/net.yaml" <<'YAML'
tunnel: vxlan
tenants:
  acme:
    bridges:
      office:
        subnet: "fd00:1::/64"
        ra: { dns: ["fd00:2::53"], search: [office.example], mtu: 1350 }
        ports: [one, two]
      servers: { subnet: "fd00:2::/64", ports: [web] }
    routers:
      gw: { links: [{ bridge: office }, { bridge: servers }] }
  other: { bridges: { quiet: { ports: [three] } } }
lab:
  hosts: [h1, h2]
  machines:
    acme/office/one: { host: h1 }
    acme/office/two: { host: h2 }
    acme/servers/web: { host: h2, address: "fd00:2::21/64" }
    other/quiet/three: { host: h1 }
YAML
up
at acme/office/one rdisc6 -1 eth0 >"$work/out" 2>&1 || fail "nobody answers rdisc6"
cat "$work/out"
for line in 'Prefix *: fd00:1::/64' 'MTU *: *1350 bytes' 'Recursive DNS server *: fd00:2::53' 'DNS search list *: office.example' \
    'Router lifetime *: *1800' 'Valid time *: *86400' 'from fe80::'; do
    grep -q "$line" "$work/out" || fail "rdisc6 does not hear: $line"
done
at other/quiet/three timeout 10 rdisc6 -1 -r 1 eth0 >"$work/out" 2>&1 && fail "a network that says nothing was told of a router"
# The kernel's own: it asks when its interface comes up.
for who in one two; do
    # A lab's machines ask nobody by themselves.
    at acme/office/$who sh -c 'echo 3 >/proc/sys/net/ipv6/conf/eth0/router_solicitations; ip link set eth0 down; ip link set eth0 up'
    for _ in $(seq 100); do at acme/office/$who ip -6 addr show dev eth0 scope global | grep -q 'fd00:1:.*dynamic' && break; sleep 0.1; done
    at acme/office/$who ip -6 addr show dev eth0 scope global | tee "$work/out" | grep 'inet6 fd00:1:' || fail "$who made itself no address"
    at acme/office/$who ip -6 route show default | grep 'via fe80::.*dev eth0' || fail "$who has no default route"
    [ "$(at acme/office/$who cat /proc/sys/net/ipv6/conf/eth0/mtu)" = 1350 ] || fail "$who does not know the MTU"
done
at acme/office/one ping -c 3 -i 0.2 -w 10 fd00:2::21 >"$work/out" || fail "the address does not reach another network"
# Neighbors are answered for: the router, and a machine on another host that made its address itself.
for who in fd00:1::1 two; do
    [ $who = two ] && address=$(at acme/office/two ip -6 addr show dev eth0 scope global | sed -n 's/.*inet6 \(fd00:1:[^/]*\).*/\1/p' | head -1) || address=$who
    at acme/office/one ndisc6 -1 "$address" eth0 >"$work/out" 2>&1 || fail "ndisc6 hears nothing of $address: $(cat "$work/out")"
    grep -q 'Target link-layer address: ' "$work/out" || fail "ndisc6 is told no address of $address"
done
two=$(at acme/office/two ip -6 addr show dev eth0 scope global | sed -n 's/.*inet6 \(fd00:1:[^/]*\).*/\1/p' | head -1)
at acme/servers/web ping -c 3 -i 0.2 -w 10 "$two" >"$work/out" || fail "$two is not reached from another network"
# What changes machines hear soon, without asking.
at acme/office/one sh -c 'timeout 15 tcpdump -l -n -vvv -i eth0 "icmp6 and ip6[40] == 134"' >"$work/heard" 2>&1 & tcpdump=$!
says "$work/heard" "listening on" || fail tcpdump
"$selvage" export --lab $lab | sed 's/mtu: \["1350"\]/mtu: ["1340"]/' >"$work/new.yaml"
quietly "$selvage" apply "$work/new.yaml" --wait --lab $lab || fail apply
says "$work/heard" "mtu option.*1340" 60 || fail "a change is not told: $(tail -5 "$work/heard")"
kill $tcpdump 2>/dev/null
[ "$(at acme/office/two cat /proc/sys/net/ipv6/conf/eth0/mtu)" = 1340 ] || fail "the other host's machine did not hear of it"
# What is said no more is taken back: addresses are used for nothing new, and the way out is gone.
"$selvage" export --lab $lab | sed '/^ *ra:$/,+1d' >"$work/new.yaml"
grep -q 'fd00:1::/64' "$work/new.yaml" && ! grep -q 'ra:' "$work/new.yaml" || fail "the manifest was not changed as meant"
quietly "$selvage" apply "$work/new.yaml" --wait --lab $lab || fail apply
for _ in $(seq 100); do at acme/office/two ip -6 route show default | grep -q . || break; sleep 0.1; done
at acme/office/two ip -6 route show default | grep . && fail "the way out is there still"
at acme/office/two ip -6 addr show dev eth0 scope global | grep -q 'fd00:1:.*deprecated' || fail "the network is not taken back"
echo passed
