#!/bin/bash
# A machine moves to another host and back while it is pinged each millisecond, talks, and sends as fast as it may: its
# connections go on, and hardly a ping is lost; also when the host that it leaves dies at that moment.
#   migrate.sh BINARY        in the environment: MOVES, MOST (pings lost at once), DYING (when the old host dies), LOAD=no (pings alone)
set -u
selvage=$1 lab=test-migrate
load=${LOAD:-yes} moves=${MOVES:-4} most=${MOST:-20} dying=${DYING:-300}
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
"$selvage" get ports --lab $lab >"$work/ports"; tap0=$(sed -n 's/^acme\/web\/vm .*h1 \([^ ]*\).*/\1/p' "$work/ports")
[ -n "$tap0" ] || fail "no port: $(cat "$work/ports")"
at acme/db/peer iperf3 -s -1 >"$work/iperf" 2>&1 &
for _ in $(seq 100); do at acme/db/peer ss -Hltn 2>/dev/null | grep -q :5201 && break; sleep 0.1; done

# The longest run of pings, one each millisecond, that were not answered while something is done.
gap() {
    at acme/db/peer ping -n -i 0.001 -c 2500 -W 1 10.0.1.11 >"$work/ping" 2>&1 &
    local ping=$!
    for _ in $(seq 100); do grep -q 'icmp_seq=300 ' "$work/ping" && break; sleep 0.02; done
    "$@" >"$work/out" 2>&1 || { kill $ping 2>/dev/null; fail "$*"; }
    wait $ping
    lost=$(awk 'match($0, /icmp_seq=[0-9]+/) { n = substr($0, RSTART + 9, RLENGTH - 9) + 0; if (n - p > m) m = n - p; if (n > p) p = n }
        END { if (2501 - p > m) m = 2501 - p; print m - 1 }' "$work/ping")
}

# Moves there and back, while it talks and sends as fast as it may.
sent=
if [ "$load" = yes ]; then
    at acme/web/vm iperf3 -c 10.0.2.21 -t "$((moves * 5 + 2))" >"$work/sent" 2>&1 &
    sent=$!
fi
at acme/web/vm python3 "$work/echo.py" talk 10.0.2.21 $((moves * 5 + 6)) >"$work/talk" 2>&1 &
talk=$!
gaps=()
for move in $(seq "$moves"); do
    if [ $((move % 2)) = 1 ]; then to="h2 --interface tap1"; else to="h1 --interface $tap0"; fi
    gap "$selvage" migrate acme/web/vm $to --lab $lab
    "$selvage" get ports --lab $lab | grep -q "acme/web/vm .*${to/--interface /}" || fail "the port is not at $to"
    gaps+=("$lost")
done
if [ -n "$sent" ]; then
    wait "$sent" && grep -q "sender" "$work/sent" || { cp "$work/sent" "$work/out"; fail "what it sent did not go on"; }
fi
sorted=($(printf '%s\n' "${gaps[@]}" | sort -n)); median=${sorted[$((moves / 2))]} worst=${sorted[$((moves - 1))]}
echo "gaps ${gaps[*]} median $median worst $worst"
[ "$worst" -le "$most" ] || fail "$worst pings of a millisecond were lost at once"

# The old host dies at that moment: its node, and with it what it forwards by.
flee() {
    "$selvage" migrate acme/web/vm $away --lab $lab &
    "$selvage" lab kill $from --lab $lab
    wait $!
}
if [ $((moves % 2)) = 1 ]; then from=h2 away="h1 --interface $tap0"; else from=h1 away="h2 --interface tap1"; fi
gap flee
echo "gap $lost when the old host dies"
[ "$lost" -le "$dying" ] || fail "$lost pings of a millisecond were lost at once when the old host died"
wait $talk || { cp "$work/talk" "$work/out"; fail "the connection did not go on"; }
cat "$work/talk"
