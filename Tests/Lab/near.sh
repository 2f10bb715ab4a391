#!/bin/bash
# Hosts with uplinks of their own: what their machines send leaves there, and what is for their floating addresses comes there
# straight. The router outside is of our own system (IBGP), and sessions carry both families.
#   near.sh BINARY
lab=test-near; . "$(dirname "$0")/lib.sh"
cat >"$work/net.yaml" <<'YAML'
tunnel: vxlan
tenants:
  provider:
    routers:
      edge:
        bgp: { as: 65001, near: true, announce: [203.0.113.0/24, "203.0.113.0/24 local", "2001:db8:1::/48"] }
        ports:
          up1:
            host: h1
            interface: isp0
            address: [100.64.1.2/30, "2001:db8:64:1::2/64"]
            peers: [{ address: 100.64.1.1, as: 65001, bfd: [100, 3] }, { address: "2001:db8:64:1::1", as: 65001, bfd: [100, 3], password: six }]
          up2:
            host: h2
            interface: isp0
            address: [100.64.2.2/30, "2001:db8:64:2::2/64"]
            peers: [{ address: 100.64.2.1, as: 65001, bfd: [100, 3] }, { address: "2001:db8:64:2::1", as: 65001, bfd: [100, 3] }]
        routes:
          - { to: 203.0.113.0/24, via: 100.64.0.2 }
          - { to: "2001:db8:1::/48", via: "2001:db8:64::2" }
  acme:
    bridges:
      web: { subnet: [10.0.1.0/24, "2001:db8:1:1::/64"], ports: [www1, www2, www3] }
    routers:
      gw:
        links:
          - { bridge: web }
          - { router: provider/edge, address: [100.64.0.2/30, "2001:db8:64::2/64"], peer: [100.64.0.1/30, "2001:db8:64::1/64"] }
        routes:
          - { to: 0.0.0.0/0, via: 100.64.0.1 }
          - { to: "::/0", via: "2001:db8:64::1" }
        floating:
          203.0.113.21: { target: 10.0.1.11, port: provider-edge }
          203.0.113.22: { target: 10.0.1.12, port: provider-edge }
          203.0.113.23: { target: 10.0.1.13, port: provider-edge }
lab:
  hosts: [h1, h2, h3]
  machines:
    acme/web/www1: { host: h1, address: [10.0.1.11/24, "2001:db8:1:1::11/64"] }
    acme/web/www2: { host: h2, address: [10.0.1.12/24, "2001:db8:1:1::12/64"] }
    acme/web/www3: { host: h3, address: [10.0.1.13/24, "2001:db8:1:1::13/64"] }
  outside:
    address: [198.51.100.10/24, "2001:db8:ffff::10/64"]
    routers:
      isp:
        daemon: DAEMON
        as: 65001
        links:
          provider/edge/up1: [100.64.1.1/30, "2001:db8:64:1::1/64"]
          provider/edge/up2: [100.64.2.1/30, "2001:db8:64:2::1/64"]
YAML
cp "$work/net.yaml" "$work/drawn.yaml"
for daemon in ${DAEMONS:-bird frr}; do
    sed "s/DAEMON/$daemon/" "$work/drawn.yaml" >"$work/net.yaml"
    up
    for _ in $(seq 300); do "$selvage" bgp status --lab $lab >"$work/out" 2>/dev/null; [ "$(grep -c ' established ' "$work/out")" = 4 ] && break; sleep 0.1; done
    [ "$(grep -c ' established ' "$work/out")" = 4 ] || fail "$daemon: not four sessions"
    # Each machine leaves by its own host's uplink; who has none takes either.
    for n in 1 2; do
        for target in 198.51.100.10 2001:db8:ffff::10; do
            for _ in $(seq 100); do "$selvage" trace acme/web/www$n "icmp to $target" --lab $lab >"$work/out" 2>&1; grep -q "port provider/edge/up$n" "$work/out" && break; sleep 0.1; done
            grep -q "port provider/edge/up$n" "$work/out" || fail "$daemon: www$n does not leave by its own host to $target"
        done
    done
    for n in 1 2 3; do
        for target in 198.51.100.10 2001:db8:ffff::10; do
            at acme/web/www$n ping -c 3 -i 0.2 -w 10 $target >"$work/out" 2>&1 || fail "$daemon: www$n does not reach $target"
        done
        at outside ping -c 2 -i 0.2 -w 10 2001:db8:1:1::1$n >"$work/out" 2>&1 || fail "$daemon: the server does not reach www$n by IPv6"
        at outside ping -c 2 -i 0.2 -w 10 203.0.113.2$n >"$work/out" 2>&1 || fail "$daemon: the server does not reach www$n's floating address"
    done
    # What is for a floating address comes to its machine's host, and through no tunnel; one of a host without uplinks by either.
    for n in 1 2; do
        at isp ip route show 203.0.113.2$n >"$work/out"
        grep -q "^203.0.113.2$n .*via 100.64.$n.2 " "$work/out" || fail "$daemon: it is not told that 203.0.113.2$n is at h$n"
    done
    at isp ip route show 203.0.113.23 >"$work/out"; grep -q . "$work/out" && fail "$daemon: the address of a machine without an uplink is told alone"
    for n in 1 2; do at h$n timeout 60 tcpdump -Z root -lni isp0 icmp >"$work/came.$n" 2>"$work/came.$n.log" & done
    for n in 1 2; do says "$work/came.$n.log" listening || fail "nobody listens at h$n"; done
    at outside ping -c 40 -i 0.02 -w 10 203.0.113.22 >"$work/out" 2>&1 || fail "$daemon: the server does not reach www2"
    says "$work/came.2" '203.0.113.22: ICMP echo request.* seq 40,' || fail "$daemon: what is for h2 does not come there"
    grep -q '203.0.113.22' "$work/came.1" && fail "$daemon: what is for h2 comes by h1"
    # Without its own uplink a host takes the other's, and its address is told there no more.
    quietly at h2 ip link set isp0 down || fail "the cable can not be cut"
    for _ in $(seq 100); do "$selvage" trace acme/web/www2 "icmp to 198.51.100.10" --lab $lab >"$work/out" 2>&1; grep -q "port provider/edge/up1" "$work/out" && break; sleep 0.1; done
    grep -q "port provider/edge/up1" "$work/out" || fail "$daemon: www2 does not go on by h1"
    for _ in $(seq 100); do at outside ping -c 1 -w 1 203.0.113.22 >"$work/out" 2>&1 && break; done
    grep -q ' 0% packet loss' "$work/out" || fail "$daemon: www2's floating address is cut off"
    quietly "$selvage" lab down --lab $lab
    echo "$daemon: near uplinks, own floating addresses, IBGP, IPv4 and IPv6"
done
echo passed
