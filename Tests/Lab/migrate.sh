#!/bin/bash
# A machine moves to another host and back while it is pinged each millisecond, talks, and sends as fast as it may: its
# connections go on, and hardly a ping is lost; also when the host that it leaves dies at that moment.
#   migrate.sh BINARY        in the environment: MOVES, MOST (pings lost at once), DYING (when the old host dies), LOAD=no (pings alone)
lab=test-migrate; . "$(dirname "$0")/lib.sh"
load=${LOAD:-yes} moves=${MOVES:-4} most=${MOST:-20} dying=${DYING:-300}
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
up
second_cable acme/web/vm h2 10.0.1.11/24 10.0.1.1
at acme/db/peer python3 "$here/echo.py" serve >"$work/server" 2>&1 &
says "$work/server" ready || fail "no server"
for _ in $(seq 50); do at acme/db/peer ping -c 1 -W 1 10.0.1.11 >/dev/null && break; sleep 0.2; done
"$selvage" get ports --lab $lab >"$work/ports"; tap0=$(sed -n 's/^acme\/web\/vm .*h1 \([^ ]*\).*/\1/p' "$work/ports")
[ -n "$tap0" ] || fail "no port: $(cat "$work/ports")"
at acme/db/peer iperf3 -s -1 >"$work/iperf" 2>&1 &
for _ in $(seq 100); do at acme/db/peer ss -Hltn 2>/dev/null | grep -q :5201 && break; sleep 0.1; done

# The longest run of pings, one each millisecond, that were not answered while something is done.
gap() {
    at acme/db/peer ping -n -i 0.001 -c 2500 -W 1 10.0.1.11 >"$work/ping" 2>&1 &
    local ping=$!
    for _ in $(seq 100); do grep -q 'bytes from .*icmp_seq=300 ' "$work/ping" && break; sleep 0.02; done
    quietly "$@" || { kill $ping 2>/dev/null; fail "$*"; }
    wait $ping
    lost=$(longest "$work/ping" 2500)
}

# Moves there and back, while it talks and sends as fast as it may.
sent=
if [ "$load" = yes ]; then
    at acme/web/vm iperf3 -c 10.0.2.21 -t "$((moves * 5 + 2))" >"$work/sent" 2>&1 &
    sent=$!
fi
at acme/web/vm python3 "$here/echo.py" talk 10.0.2.21 $((moves * 5 + 6)) >"$work/talk" 2>&1 &
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
