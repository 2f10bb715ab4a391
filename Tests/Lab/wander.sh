#!/bin/bash
# A machine that nobody declared goes to another port by itself, as a keepalived pair or a hypervisor without hooks makes it: it
# announces itself there, all hosts know it in milliseconds, and what was sent to it follows, by bridge and through a router.
#   wander.sh BINARY         MOST (pings lost at once, 60) in the environment
lab=test-wander; . "$(dirname "$0")/lib.sh"
most=${MOST:-60}
cat >"$work/net.yaml" <<'YAML'
tunnel: vxlan
tenants:
  acme:
    bridges:
      lan: { subnet: 10.0.1.0/24, ports: { one: {}, two: { host: h3, interface: tap1 }, near: {} } }
      db: { subnet: 10.0.2.0/24, ports: [far] }
    routers: { gw: { links: [{ bridge: lan }, { bridge: db }] } }
lab:
  hosts: [h1, h2, h3]
  machines:
    acme/lan/one: { host: h2, address: 10.0.1.11/24, declared: false }
    acme/lan/near: { host: h1, address: 10.0.1.12/24 }
    acme/db/far: { host: h1, address: 10.0.2.21/24 }
YAML
up
second_cable acme/lan/one h3 10.0.1.11/24 10.0.1.1 off
at acme/lan/near python3 "$here/echo.py" serve >"$work/server" 2>&1 &
says "$work/server" ready || fail "no server"
for from in lan/near db/far; do
    for _ in $(seq 50); do at acme/$from ping -c 1 -W 1 10.0.1.11 >/dev/null && break; sleep 0.2; done
done
at acme/lan/one python3 "$here/echo.py" talk 10.0.1.12 8 >"$work/talk" 2>&1 &
talk=$!

# It leaves one port, and speaks up at the other one.
wander() { at acme/lan/one sh -e -c "ip link set $1 down nomaster; ip link set $2 up master br0; arping -q -c 1 -U -I br0 10.0.1.11"; }
for way in "eth0 eth1 h3" "eth1 eth0 h2"; do
    read -r from to host <<<"$way"
    at acme/lan/near ping -n -i 0.001 -c 2000 -W 1 10.0.1.11 >"$work/near" 2>&1 & near=$!
    at acme/db/far ping -n -i 0.001 -c 2000 -W 1 10.0.1.11 >"$work/far" 2>&1 & far=$!
    for _ in $(seq 100); do grep -q 'bytes from .*icmp_seq=300 ' "$work/far" && break; sleep 0.02; done
    quietly wander "$from" "$to" || fail "it can't go to $to"
    wait $near $far
    near=$(longest "$work/near" 2000) far=$(longest "$work/far" 2000)
    echo "to $host: $near pings of a millisecond lost by bridge, $far through the router"
    [ "$near" -le "$most" ] && [ "$far" -le "$most" ] || fail "it was not followed"
done
wait $talk || { cp "$work/talk" "$work/out"; fail "the connection did not go on"; }
cat "$work/talk"
