#!/bin/bash
# Bridges and routers that go on elsewhere by EVPN (RFC 7432, 9136): a switch of others, played by FRRouting and the kernel, is told by two
# hosts which stations are behind them (type 2) and where tunnels end (type 3), and networks of a router (type 5), and tells the same. One
# host of two carries at a time; the other takes over.
#   evpn.sh BINARY        MOST=100 SLOW=450 (lost pings of 10 ms in a row, to a station and to a network)
lab=test-evpn; . "$(dirname "$0")/lib.sh"
most=${MOST:-100} slow=${SLOW:-450}
# Host h4 has nothing of the cluster's: its world is the switch of others.
cat >"$work/net.yaml" <<'YAML'
tunnel: gre
tenants:
  acme:
    bridges:
      app:
        subnet: [10.0.1.0/24, "2001:db8:1::/64"]
        ports:
          vm1: {}
          vm2: {}
          rack1: { host: h1, segment: rack, preference: 200, vxlan: { vni: 5000, as: 65000, peers: [192.0.2.4 as 65004] } }
          rack2: { host: h2, segment: rack, vxlan: { vni: 5000, as: 65000, peers: [192.0.2.4 as 65004] } }
    routers:
      gw:
        bgp: { as: 65001, announce: [10.0.1.0/24, "2001:db8:1::/64"] }
        links: [{ bridge: app, address: [10.0.1.1/24, "2001:db8:1::1/64"] }]
        ports:
          wan1:
            host: h1
            address: [100.64.9.1/30, "2001:db8:9:1::1/64"]
            vxlan: { vni: 9000, as: 65000, peers: [192.0.2.4 as 65004] }
            peers: [{ address: 100.64.9.2, as: 65000 }, { address: "2001:db8:9:1::2", as: 65000 }]
          wan2:
            host: h2
            address: [100.64.9.5/30, "2001:db8:9:2::1/64"]
            vxlan: { vni: 9000, as: 65000, peers: [192.0.2.4 as 65004] }
            peers: [{ address: 100.64.9.6, as: 65000 }, { address: "2001:db8:9:2::2", as: 65000 }]
lab:
  hosts: [h1, h2, h3, h4]
  machines:
    acme/app/vm1: { host: h2, address: [10.0.1.11/24, "2001:db8:1::11/64"] }
    acme/app/vm2: { host: h3, address: [10.0.1.12/24, "2001:db8:1::12/64"] }
YAML
up
files=/run/selvage-labs/$lab/leaf; mkdir -p "$files"
# The switch: a station in the bridges' network at one of its ports, and a network of its own behind it.
quietly at h4 sh -e -c "
    ip link add vx5000 type vxlan id 5000 local 192.0.2.4 dstport 4789 nolearning
    ip link add vx9000 type vxlan id 9000 local 192.0.2.4 dstport 4789 nolearning
    for vni in 5000 9000; do
        ip link add br\$vni type bridge; ip link set vx\$vni mtu 1450 master br\$vni; ip link set br\$vni mtu 1450
        for link in vx br; do
            # What is routed to others goes by the bridge of routers, in both families.
            [ \$link\$vni = br9000 ] || echo 1 >/proc/sys/net/ipv6/conf/\$link\$vni/disable_ipv6
            ip link set \$link\$vni up
        done
    done
    ip link add plug type veth peer name station; ip link set plug master br5000 up
    ip link set station mtu 1450 up
    ip link add stub type bridge; ip link set stub up; ip addr add 172.20.0.1/24 dev stub; ip addr add 2001:db8:20::1/64 dev stub nodad
    for all in ipv4/ip_forward ipv6/conf/all/forwarding; do echo 1 >/proc/sys/net/\$all; done" || fail "the switch"
station() { at h4 nsenter --net="$files/station" "$@"; }
quietly at h4 sh -e -c "
    : >$files/station; unshare --net=$files/station true; ip link set station netns $files/station
    nsenter --net=$files/station ip link set station up; nsenter --net=$files/station ip addr add 10.0.1.54/24 dev station
    nsenter --net=$files/station ip route add default via 10.0.1.1" || fail "the station"
cat >"$work/leaf.conf" <<'C'
vni 9000
router bgp 65004
 bgp router-id 192.0.2.4
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 bgp bestpath as-path multipath-relax
 neighbor 192.0.2.1 remote-as 65000
 neighbor 192.0.2.1 timers 3 9
 neighbor 192.0.2.1 timers connect 1
 neighbor 192.0.2.2 remote-as 65000
 neighbor 192.0.2.2 timers 3 9
 neighbor 192.0.2.2 timers connect 1
 address-family ipv4 unicast
  network 172.20.0.0/24
  maximum-paths 1
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:20::/64
  maximum-paths 1
 exit-address-family
 address-family l2vpn evpn
  neighbor 192.0.2.1 activate
  neighbor 192.0.2.2 activate
  advertise-all-vni
  advertise ipv4 unicast
  advertise ipv6 unicast
 exit-address-family
exit
C
for daemon in zebra bgpd; do
    at h4 "/usr/lib/frr/$daemon" -d -f /dev/null -i "$files/$daemon.pid" -z "$files/zserv.api" --vty_socket "$files" -u root -g root -P 0 \
        --log "file:$files/$daemon.log" >"$work/out" 2>&1 || fail "$daemon does not start"
done
for daemon in zebra bgpd; do for _ in $(seq 100); do at h4 test -S "$files/$daemon.vty" && break; sleep 0.05; done; done
leaf() { at h4 vtysh --vty_socket "$files" "$@"; }
at h4 cp "$work/leaf.conf" "$files/leaf.conf" && leaf -f "$files/leaf.conf" >"$work/out" 2>&1 || fail "the switch is not configured"
status() { "$selvage" bgp status --lab $lab "$@"; }
for _ in $(seq 200); do [ "$(status 2>/dev/null | grep -c '^192.0.2.4 *65004 *established')" = 2 ] && break; sleep 0.1; done
status >"$work/out" 2>&1; [ "$(grep -c '^192.0.2.4 *65004 *established' "$work/out")" = 2 ] || fail "the sessions are not there"
ping_ok() {
    local _
    for _ in 1 2 3 4 5; do at "$1" ping -c 2 -i 0.2 -w 2 "$2" >"$work/out" 2>&1 && return 0; done
    fail "$1 does not reach $2"
}
# seen COMMAND... PATTERN: waits until the command's output has it.
seen() {
    local pattern=${*: -1} _
    for _ in $(seq 150); do "${@:1:$#-1}" >"$work/out" 2>&1; grep -q -- "$pattern" "$work/out" && return 0; sleep 0.1; done
    fail "there is no $pattern"
}

# Where tunnels end is told (type 3), by both hosts, and heard.
for host in 1 2; do seen at h4 bridge fdb show dev vx5000 "00:00:00:00:00:00 dst 192.0.2.$host "; done
# Stations are told of before they are asked for (type 2), with the host that carries as their end point.
for vm in vm1 vm2; do ping_ok acme/app/$vm 10.0.1.54; done
mac() { at "$1" ip -o link show eth0 | sed 's/.*ether \([^ ]*\).*/\1/'; }
for vm in vm1 vm2; do seen at h4 bridge fdb show dev vx5000 "$(mac acme/app/$vm) dst 192.0.2.1 "; done
leaf -c 'show bgp l2vpn evpn route type macip' >"$work/out" 2>&1
grep -q "\[2\]:\[0\]:\[48\]:\[$(mac acme/app/vm2)\]" "$work/out" || fail "vm2 is not told of by a route of type 2"
station ping -c 3 -i 0.2 -w 5 10.0.1.12 >"$work/out" 2>&1 || fail "the station does not reach vm2"
# Large packets go through, or are told to be smaller.
at acme/app/vm2 ping -c 2 -i 0.2 -w 3 -M do -s 1400 10.0.1.54 >"$work/out" 2>&1 || fail "large packets do not come"
# Networks of routers (type 5), both ways, by both hosts.
seen "$selvage" trace acme/app/vm2 'icmp to 172.20.0.1' --lab $lab '172.20.0.0/24 via 100.64.9'
seen "$selvage" trace acme/app/vm2 'icmp to 2001:db8:20::1' --lab $lab '2001:db8:20::/64 via 2001:db8:9:'
# (FRRouting 8.4 loses the far router's MAC where one of several ways goes: it goes by one of the two.)
for host in 1 2; do seen leaf -c 'show bgp l2vpn evpn route type prefix' "^  *192.0.2.$host .* 65000 65001 i"; done
seen at h4 ip route show 10.0.1.0/24 'via 192.0.2.[12] '
seen at h4 ip -6 route show 2001:db8:1::/64 'via ::ffff:192.0.2.[12] '
for vm in vm1 vm2; do for far in 172.20.0.1 2001:db8:20::1; do ping_ok acme/app/$vm $far; done; done
at acme/app/vm2 traceroute -n -I -w 1 -q 1 -m 5 172.20.0.1 >"$work/out" 2>&1; grep -q '100\.64\.9\.[26]' "$work/out" || fail "the way does not lead by the network of routers"

at acme/app/vm2 timeout 900 ping -i 0.01 10.0.1.54 >"$work/ping.1" 2>&1 & one=$!
at acme/app/vm2 timeout 900 ping -i 0.01 172.20.0.1 >"$work/ping.2" 2>&1 & two=$!
for n in 1 2; do says "$work/ping.$n" "icmp_seq=50 " || fail "ping $n is not answered"; done
goes_on() {
    local n seen
    for n in 1 2; do
        seen=$(grep -c 'bytes from' "$work/ping.$n")
        for _ in $(seq 200); do [ "$(grep -c 'bytes from' "$work/ping.$n")" -ge $((seen + 20)) ] && continue 2; sleep 0.05; done
        cp "$work/ping.$n" "$work/out"; fail "$1: ping $n is answered no more"
    done
}
# gaps WHAT MOST SLOWEST: the longest ones, to the station and to the network.
gaps() {
    local n last gap line="" what=$1
    shift
    for n in 1 2; do
        last=$(sed -n 's/.*icmp_seq=\([0-9]*\).*/\1/p' "$work/ping.$n" | tail -1)
        gap=$(longest "$work/ping.$n" "$last")
        line="$line $gap"
        [ "$gap" -le "${!n}" ] || fail "$what: ping $n lost $gap in a row, ${!n} at most"
    done
    echo "$what:$line pings of 10 ms lost in a row, to a station and to a network"
}
quietly "$selvage" lab kill h1 --lab $lab || fail "h1 is not killed"
says /run/selvage-labs/$lab/h2.log "acme/app/rack2 carries" || fail "h2 does not take over"
goes_on "h1 is killed"
for vm in vm1 vm2; do seen at h4 bridge fdb show dev vx5000 "$(mac acme/app/$vm) dst 192.0.2.2 "; done
# Others take a host for gone that says nothing for 3 s.
gaps "the node that carries is killed" "$most" "$slow"
quietly "$selvage" lab start h1 --lab $lab || fail "h1 does not start"
seen at h4 bridge fdb show dev vx5000 "00:00:00:00:00:00 dst 192.0.2.1 "
for vm in vm1 vm2; do seen at h4 bridge fdb show dev vx5000 "$(mac acme/app/$vm) dst 192.0.2.1 "; done
goes_on "h1 is there again"
gaps "it is there again" "$most" "$slow"
# The other one is preferred: what was told by this one is taken back.
prefer() { "$selvage" export --lab $lab | sed "s/$1/$2/" >"$work/other.yaml"; quietly "$selvage" apply "$work/other.yaml" --lab $lab || fail "apply"; }
prefer 'preference: 200' 'preference: 50'
says /run/selvage-labs/$lab/h2.log "acme/app/rack2 carries for" || fail "h2 does not take over"
for vm in vm1 vm2; do seen at h4 bridge fdb show dev vx5000 "$(mac acme/app/$vm) dst 192.0.2.2 "; done
goes_on "h2 is preferred"
gaps "the other one is preferred" "$most" "$slow"
prefer 'preference: 50' 'preference: 200'
for vm in vm1 vm2; do seen at h4 bridge fdb show dev vx5000 "$(mac acme/app/$vm) dst 192.0.2.1 "; done
goes_on "h1 is preferred"
gaps "this one is preferred again" "$most" "$slow"
# Where nobody outside tells any more where things are, the port has no carrier.
at h1 sh -c "ip route add blackhole 192.0.2.4/32" || fail "h1 is not cut off from the switch"
says /run/selvage-labs/$lab/h1.log "acme/app/rack1 carries no more" || fail "h1 goes on without the switch"
goes_on "h1 has no peer"
gaps "it has no peer" "$slow" "$slow"
at h1 ip route del blackhole 192.0.2.4/32
for vm in vm1 vm2; do seen at h4 bridge fdb show dev vx5000 "$(mac acme/app/$vm) dst 192.0.2.1 "; done
goes_on "h1 has a peer again"
gaps "it has a peer again" "$slow" "$slow"
kill $one $two 2>/dev/null; wait
# The network of routers is at another address, and all is as before.
"$selvage" export --lab $lab | sed 's/"100.64.9.1\/30"/"100.64.9.9\/30"/; s/"100.64.9.2"/"100.64.9.10"/' >"$work/other.yaml"; quietly "$selvage" apply "$work/other.yaml" --lab $lab || fail apply
seen "$selvage" bgp status --lab $lab '^100.64.9.10 *65000 *established'
for vm in vm1 vm2; do for far in 172.20.0.1 2001:db8:20::1; do ping_ok acme/app/$vm $far; done; done

# Bad input is refused, and the place is told.
"$selvage" export --lab $lab | sed '0,/as: \["65000"\], peers/s//as: ["65009"], peers/' >"$work/bad.yaml"
"$selvage" apply "$work/bad.yaml" --lab $lab >"$work/out" 2>&1 && fail "a host of two systems was taken"
grep -q 'has another as or local on host h1' "$work/out" || fail "it is not told what is wrong with two systems"
# Without the ports nothing is left.
for port in rack1 rack2; do quietly "$selvage" delete port acme/app/$port --lab $lab || fail "$port can't be removed"; done
for port in wan1 wan2; do quietly "$selvage" delete port acme/gw/$port --lab $lab || fail "$port can't be removed"; done
for _ in $(seq 100); do at h1 ip link >"$work/out"; grep -q 'selx\|selev' "$work/out" || break; sleep 0.1; done
grep -q 'selx\|selev' "$work/out" && fail "interfaces are left"
pgrep -f "bgpd .*$lab/h[12].data" >"$work/out" && fail "daemons are left"
echo passed
