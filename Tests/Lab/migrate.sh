#!/bin/bash
# A machine moves to another host while it is pinged and talks: its connections go on, and hardly a ping is lost.
#   migrate.sh BINARY
set -u
selvage=$1 lab=test-migrate
work=$(mktemp -d)
trap '"$selvage" lab down --lab $lab >/dev/null 2>&1; rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; tail -n 20 "$work/out" 2>/dev/null; exit 1; }
at() { local place=$1; shift; timeout 100 "$selvage" lab exec --lab $lab "$place" -- "$@"; }
cat >"$work/net.yaml" <<'YAML'
tunnel: gre
tenants:
  acme:
    # Nothing but pings begins from outside: what goes on is what is known of connections.
    securityGroups: { closed: { in: [{ protocol: icmp }] } }
    bridges:
      web: { subnet: 10.0.1.0/24, ports: { vm: { security: closed } } }
      db: { subnet: 10.0.2.0/24, ports: [peer] }
    routers: { gw: { links: [{ bridge: web }, { bridge: db }] } }
lab:
  hosts: [h1, h2, h3]
  machines:
    acme/web/vm: { host: h1, address: 10.0.1.11/24 }
    acme/db/peer: { host: h3, address: 10.0.2.21/24 }
YAML
cat >"$work/echo.py" <<'PY'
import socket, sys, time
if sys.argv[1] == "serve":
    s = socket.create_server(("0.0.0.0", 8080))
    print("ready", flush=True)
    c, _ = s.accept()
    while d := c.recv(65536):
        c.sendall(d)
else:
    s = socket.create_connection((sys.argv[2], 8080))
    s.settimeout(5)
    end = time.monotonic() + float(sys.argv[3])
    count = worst = 0
    while time.monotonic() < end:
        began = time.monotonic()
        s.sendall(b"x")
        if s.recv(1) != b"x":
            sys.exit("the connection ended")
        worst = max(worst, time.monotonic() - began)
        count += 1
        time.sleep(0.002)
    print("echoes", count, "worst_ms", int(worst * 1e3))
PY
"$selvage" lab up "$work/net.yaml" --lab $lab >"$work/out" 2>&1 || fail "lab up"
# The machine has a cable to each host, as a hypervisor has a tap for it on both for a moment.
at h2 sh -c 'echo $$; exec sleep 1000' >"$work/pid" &
for _ in $(seq 50); do [ -s "$work/pid" ] && break; sleep 0.1; done
at acme/web/vm sh -e -c '
    mac=$(ip -br link show eth0 | awk "{ print \$3 }") mtu=$(ip link show eth0 | sed -n "s/.* mtu \([0-9]*\).*/\1/p")
    ip link add br0 address $mac mtu $mtu type bridge; ip link add eth1 mtu $mtu type veth peer name tap1 netns '"$(cat "$work/pid")"'
    ip addr flush dev eth0; ip link set eth0 master br0; ip link set eth1 master br0; ip link set eth1 up; ip link set br0 up
    ip addr add 10.0.1.11/24 dev br0; ip route replace default via 10.0.1.1' >"$work/out" 2>&1 || fail "the second cable"
at h2 ip link set tap1 up
at acme/db/peer python3 "$work/echo.py" serve >"$work/server" 2>&1 &
for _ in $(seq 100); do grep -q ready "$work/server" && break; sleep 0.1; done
for _ in $(seq 50); do at acme/db/peer ping -c 1 -W 1 10.0.1.11 >/dev/null && break; sleep 0.2; done
at acme/web/vm python3 "$work/echo.py" talk 10.0.2.21 8 >"$work/talk" 2>&1 &
talk=$!
at acme/db/peer ping -i 0.01 -c 600 -W 1 10.0.1.11 >"$work/ping" 2>&1 &
ping=$!
for _ in $(seq 100); do grep -q 'icmp_seq=100 ' "$work/ping" && break; sleep 0.05; done
"$selvage" migrate acme/web/vm h2 --interface tap1 --lab $lab >"$work/out" 2>&1 || fail "migrate"
wait $ping; wait $talk || { cp "$work/talk" "$work/out"; fail "the connection did not go on"; }
"$selvage" get ports --lab $lab | grep -q 'acme/web/vm .*h2 tap1' || fail "the port is not there"
lost=$((600 - $(sed -n 's/.* \([0-9]*\) received.*/\1/p' "$work/ping")))
cp "$work/ping" "$work/out"
[ "$lost" -le 10 ] || fail "$lost pings of 10 ms were lost"
echo "$lost of 600 pings were lost, $(cat "$work/talk")"
