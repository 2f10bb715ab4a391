#!/bin/bash
# One tenant floods, another opens connections; and a group of thousands of addresses changes under traffic.
#   flood.sh BINARY
lab=test-flood; . "$(dirname "$0")/lib.sh"
members() { local i; for ((i = 0; i < 5000; i++)); do echo "\"$1.$((i / 250)).$((i % 250))\""; done | paste -sd,; }
draw() {   # draw MEMBERS
    cat <<YAML
tunnel: gre
tenants:
  good:
    addressGroups: { many: [$1] }
    securityGroups: { web: { in: [{ protocol: tcp, port: 8080 }, { protocol: tcp, port: 22, addressGroup: many }, { protocol: icmp }] }, client: {} }
    bridges:
      a: { subnet: 10.0.1.0/24, ports: { client: { security: client } } }
      b: { subnet: 10.0.2.0/24, ports: { server: { security: web } } }
    routers: { gw: { links: [{ bridge: a }, { bridge: b }] } }
  evil:
    securityGroups: { open: { in: [{ protocol: tcp }] } }
    bridges:
      a: { subnet: 10.0.0.0/8, ports: { mallory: { security: open, allowed: 10.1.0.0/16 }, target: { security: open } } }
lab:
  hosts: [h1]
  machines:
    good/a/client: { host: h1, address: 10.0.1.11/24 }
    good/b/server: { host: h1, address: 10.0.2.21/24 }
    evil/a/mallory: { host: h1, address: 10.1.0.66/8 }
    evil/a/target: { host: h1, address: 10.1.0.67/8 }
YAML
}
cat >"$work/rate.py" <<'PY'
import select, socket, sys, time
address, rate, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
opened = sent = 0
began, pending, poll = time.monotonic(), {}, select.epoll()
while (now := time.monotonic()) < began + seconds + 1:
    while sent < rate * (now - began) and now < began + seconds:
        s = socket.socket()
        s.setblocking(False)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        try:
            s.connect((address, 8080))
        except BlockingIOError:
            pass
        poll.register(s.fileno(), select.EPOLLOUT)
        pending[s.fileno()] = (s, now)
        sent += 1
    for number, _ in poll.poll(0.002):
        s, since = pending.pop(number)
        poll.unregister(number)
        opened += s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and time.monotonic() < since + 1
        s.close()
print(opened)
PY
cat >"$work/server.py" <<'PY'
import socket
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 8080))
s.listen(4096)
while True:
    s.accept()[0].close()
PY
draw "$(members 172.16)" >"$work/one.yaml"; draw "$(members 172.30)" >"$work/two.yaml"
quietly "$selvage" lab up "$work/one.yaml" --lab $lab || fail "lab up"
at good/b/server python3 "$work/server.py" & server=$!
for _ in $(seq 100); do at good/b/server ss -Hltn | grep -q ':8080' && break; read -rt 0.1 <> <(:) || true; done
rate=400
before=$(at good/a/client python3 "$work/rate.py" 10.0.2.21 $rate 4)
for kind in "-S --flood --rand-source" "-S --flood" "--udp --flood"; do
    # shellcheck disable=SC2086
    at evil/a/mallory timeout 6 hping3 -q $kind -p ++1 10.1.0.67 >/dev/null 2>&1 & flood=$!
    during=$(at good/a/client python3 "$work/rate.py" 10.0.2.21 $rate 4)
    wait $flood
    echo "connections of the other tenant in 4 s: $before before, $during under hping3 $kind"
    [ "$before" -gt 0 ] && [ $((during * 10)) -ge $((before * 9)) ] || fail "the flood took more than a tenth"
done
"$selvage" state --lab $lab >"$work/out"; grep -A4 TENANT "$work/out"
ping_lost() { sed -n 's/.* \([0-9]*\) received.*/\1/p' "$work/ping"; }
at good/a/client ping -i 0.01 -c 400 10.0.2.21 >"$work/ping" & ping=$!
for file in two one two; do quietly "$selvage" lab apply --lab $lab "$work/$file.yaml" || fail "the group was not changed"; done
wait $ping; tail -n 2 "$work/ping"
[ "$(ping_lost)" = 400 ] || fail "pings were lost while a group of 5000 addresses changed"
longest=$(sed -n 's|.*= [0-9.]*/[0-9.]*/\([0-9]*\)\..*|\1|p' "$work/ping")
# Tool, leader and all nodes take the group in on the same cores as the pings.
[ "$longest" -lt ${MOST:-800} ] || fail "traffic paused for $longest ms while a group of 5000 addresses changed"
"$selvage" trace --lab $lab good/a/client 'tcp 10.0.1.11:5 > 10.0.2.21:22' | grep -q 'drop' || fail "who is not in the group got in"
kill $server 2>/dev/null
echo "a group of 5000 addresses changed three times: longest ping $longest ms"
