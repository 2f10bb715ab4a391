#!/bin/bash
# A machine that nobody declared goes to another port by itself, as a keepalived pair or a hypervisor without hooks makes it: it
# announces itself there, all hosts know it in milliseconds, and what was sent to it follows, by bridge and through a router.
#   wander.sh BINARY         MOST (pings lost at once, 60) in the environment
set -u
selvage=$1 lab=test-wander
most=${MOST:-60}
work=$(mktemp -d)
trap '"$selvage" lab down --lab $lab >/dev/null 2>&1; rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; tail -n 20 "$work/out" 2>/dev/null; exit 1; }
at() { local place=$1; shift; timeout 100 "$selvage" lab exec --lab $lab "$place" -- "$@"; }
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
cat >"$work/talk.py" <<'PY'
import socket, sys, time
if sys.argv[1] == "serve":
    s = socket.create_server(("0.0.0.0", 8080))
    print("ready", flush=True)
    c, _ = s.accept()
    while d := c.recv(65536):
        c.sendall(d)
else:
    s = socket.create_connection((sys.argv[2], 8080), timeout=5)
    end = time.monotonic() + float(sys.argv[3])
    count = worst = 0
    while time.monotonic() < end:
        began = time.monotonic()
        s.sendall(b"x")
        if s.recv(1) != b"x":
            sys.exit("the connection ended")
        worst, count = max(worst, time.monotonic() - began), count + 1
        time.sleep(0.002)
    print("echoes", count, "worst_ms", int(worst * 1e3))
PY
"$selvage" lab up "$work/net.yaml" --lab $lab >"$work/out" 2>&1 || fail "lab up"
at h3 sh -c 'echo $$; exec sleep 1000' >"$work/pid" &
for _ in $(seq 50); do [ -s "$work/pid" ] && break; sleep 0.1; done
at acme/lan/one sh -e -c '
    mac=$(ip -br link show eth0 | awk "{ print \$3 }") mtu=$(ip link show eth0 | sed -n "s/.* mtu \([0-9]*\).*/\1/p")
    ip link add br0 address $mac mtu $mtu type bridge; ip link add eth1 mtu $mtu type veth peer name tap1 netns '"$(cat "$work/pid")"'
    ip addr flush dev eth0; ip link set eth0 master br0; ip link set br0 up
    ip addr add 10.0.1.11/24 dev br0; ip route replace default via 10.0.1.1' >"$work/out" 2>&1 || fail "the second cable"
at h3 ip link set tap1 up
at acme/lan/near python3 "$work/talk.py" serve >"$work/server" 2>&1 &
for _ in $(seq 100); do grep -q ready "$work/server" && break; sleep 0.1; done
for from in lan/near db/far; do
    for _ in $(seq 50); do at acme/$from ping -c 1 -W 1 10.0.1.11 >/dev/null && break; sleep 0.2; done
done
at acme/lan/one python3 "$work/talk.py" talk 10.0.1.12 8 >"$work/talk" 2>&1 &
talk=$!

# It leaves one port, and speaks up at the other one.
wander() { at acme/lan/one sh -e -c "ip link set $1 down nomaster; ip link set $2 up master br0; arping -q -c 1 -U -I br0 10.0.1.11"; }
lost_of() {
    awk 'match($0, /icmp_seq=[0-9]+/) { n = substr($0, RSTART + 9, RLENGTH - 9) + 0; if (n - p > m) m = n - p; if (n > p) p = n }
        END { if (2001 - p > m) m = 2001 - p; print m - 1 }' "$1"
}
for way in "eth0 eth1 h3" "eth1 eth0 h2"; do
    read -r from to host <<<"$way"
    at acme/lan/near ping -n -i 0.001 -c 2000 -W 1 10.0.1.11 >"$work/near" 2>&1 & near=$!
    at acme/db/far ping -n -i 0.001 -c 2000 -W 1 10.0.1.11 >"$work/far" 2>&1 & far=$!
    for _ in $(seq 100); do grep -q 'icmp_seq=300 ' "$work/far" && break; sleep 0.02; done
    wander "$from" "$to" >"$work/out" 2>&1 || fail "it can't go to $to"
    wait $near $far
    near=$(lost_of "$work/near") far=$(lost_of "$work/far")
    echo "to $host: $near pings of a millisecond lost by bridge, $far through the router"
    [ "$near" -le "$most" ] && [ "$far" -le "$most" ] || fail "it was not followed"
done
wait $talk || { cp "$work/talk" "$work/out"; fail "the connection did not go on"; }
cat "$work/talk"
