#!/bin/bash
# Nodes that die with many connections, and that are restarted one after another under load: no connection is lost.
#   restarts.sh BINARY       CONNECTIONS (100000) and SERVES (milliseconds, 1000) in the environment
lab=test-restarts; . "$(dirname "$0")/lib.sh"
connections=${CONNECTIONS:-100000} serves=${SERVES:-1000}
cat >"$work/net.yaml" <<'YAML'
tunnel: gre
tenants:
  acme:
    # Nothing begins from outside: what comes in belongs to a connection that is known.
    securityGroups: { closed: {} }
    limits: { connections: 400000, connectionsPerPort: 200000 }
    bridges:
      web: { subnet: 10.0.1.0/24, ports: { vm: { security: closed } } }
      internet: { ports: [far] }
    routers:
      edge:
        links: [{ bridge: web }, { bridge: internet, address: 203.0.113.1/24 }]
        nat: [{ source: 10.0.1.0/24, outPort: edge/internet, protocol: tcp, action: snat 203.0.113.5 }]
        routes: []
lab:
  hosts: [h1, h2, h3]
  machines:
    acme/web/vm: { host: h1, address: 10.0.1.11/24 }
    acme/internet/far: { host: h2, address: 203.0.113.80/24 }
YAML
cat >"$work/far.py" <<'PY'
import select, socket, sys, threading, time
# UDP is echoed until "go"; then every known peer gets a word, and "again" does that once more.
ports = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(40)]
peers = []
for number, s in enumerate(ports):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    s.bind(("203.0.113.80", 9000 + number))
listener = socket.create_server(("203.0.113.80", 8080), backlog=1024)
def serve(c):
    while data := c.recv(100):
        c.sendall(data)
def accept():
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
def echo():
    while True:
        for s in select.select(ports, [], [])[0]:
            data, peer = s.recvfrom(100)
            if data == b"?":
                peers.append((s, peer))
                s.sendto(b"!", peer)
threading.Thread(target=echo, daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "beat":
        # One connection is told something each millisecond, to see when it is served again.
        s, peer = peers[0]
        def beat():
            while True:
                s.sendto(b"b%f" % time.time(), peer)
                time.sleep(0.001)
        threading.Thread(target=beat, daemon=True).start()
    else:
        for number, (s, peer) in enumerate(list(peers)):
            s.sendto(b"w", peer)
            if number % 20 == 0:
                time.sleep(0.001)
        print("told", len(peers), flush=True)
PY
cat >"$work/vm.py" <<'PY'
import resource, select, socket, sys, time
count = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
# So many connections need several destinations a socket.
sockets = []
for _ in range((count + 39) // 40):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setblocking(False)
    sockets.append(s)
poll = select.epoll()
by = {}
for s in sockets:
    poll.register(s, select.EPOLLIN)
    by[s.fileno()] = s
answered, told, last_beat, beats = set(), set(), 0.0, []
def take(wait):
    global last_beat
    n = 0
    for fd, _ in poll.poll(wait):
        s = by[fd]
        while True:
            try:
                data, peer = s.recvfrom(100)
            except BlockingIOError:
                break
            n += 1
            if data == b"!": answered.add((fd, peer[1]))
            elif data == b"w": told.add((fd, peer[1]))
            elif data[:1] == b"b": beats.append(time.time())
    return n
wanted = [(s, 9000 + p) for p in range(40) for s in sockets][:count]
for _ in range(20):
    left = [(s, p) for s, p in wanted if (s.fileno(), p) not in answered]
    if not left:
        break
    for number, (s, p) in enumerate(left):
        s.sendto(b"?", ("203.0.113.80", p))
        if number % 16 == 0:
            take(0)
        if number % 256 == 0:
            time.sleep(0.005)
    end = time.time() + 0.5
    while time.time() < end:
        take(0.05)
print("open", len(answered), flush=True)
poll.register(sys.stdin, select.EPOLLIN)
by[0] = None
while True:
    for fd, _ in poll.poll(0.05):
        if fd != 0:
            continue
        line = sys.stdin.readline().strip()
        if line == "told":
            print("told", len(told), flush=True)
        elif line == "beats":
            gaps = [(b - a, b) for a, b in zip(beats, beats[1:])]
            worst = max(gaps)
            print("beats", len(beats), "gap_ms", int(worst[0] * 1e3), "until", worst[1], flush=True)
        elif not line:
            sys.exit()
    poll.unregister(0)
    del by[0]
    take(0.05)
    poll.register(sys.stdin, select.EPOLLIN)
    by[0] = None
PY
cat >"$work/talk.py" <<'PY'
import socket, sys, time
kept = [socket.create_connection(("203.0.113.80", 8080), timeout=5) for _ in range(int(sys.argv[1]))]
for s in kept:
    s.settimeout(20)
print("talking", flush=True)
end = time.monotonic() + float(sys.argv[2])
echoes, lost = 0, set()
while time.monotonic() < end:
    for number, s in enumerate(kept):
        if number in lost:
            continue
        try:
            s.sendall(b"x")
            if s.recv(1) != b"x":
                lost.add(number)
        except OSError:
            lost.add(number)
        echoes += 1
print("kept", len(kept) - len(lost), "lost", len(lost), "echoes", echoes)
PY
up
mkfifo "$work/far-in" "$work/vm-in"
at acme/internet/far python3 "$work/far.py" <"$work/far-in" >>"$work/far" 2>&1 &
exec 3>"$work/far-in"
says "$work/far" ready 100 || fail "the far machine"
at acme/web/vm python3 "$work/vm.py" "$connections" <"$work/vm-in" >>"$work/vm" 2>&1 &
exec 4>"$work/vm-in"
says "$work/vm" "^open" 1200 || { cp "$work/vm" "$work/out"; fail "connections were not opened"; }
cp "$work/vm" "$work/out"
[ "$(sed -n 's/^open //p' "$work/vm")" = "$connections" ] || fail "not all were opened"
known() { "$selvage" state --lab $lab --host h1 --json | python3 -c 'import json, sys; print(sum(h["count"] for h in json.load(sys.stdin).values()))'; }
before=$(known)
[ "$before" -ge "$connections" ] || fail "h1 knows $before connections"

# The node dies a second after the last of them, and is started again.
echo beat >&3
sleep 1.2
quietly "$selvage" lab kill h1 --lab $lab || fail "lab kill"
began=$(date +%s.%N)
quietly "$selvage" lab start h1 --lab $lab || fail "lab start"
sleep 1
echo beats >&4
says "$work/vm" "^beats" 100 || fail "no word of the beats"
took=$(python3 -c 'import sys; print(int((float(sys.argv[1]) - float(sys.argv[2])) * 1000))' "$(sed -n 's/.*until //p' "$work/vm")" "$began")
after=$(known)
# A word to each of them. Datagrams may be lost on the way, so that there are three.
for round in 1 2 3; do
    : >"$work/far"; echo go >&3
    says "$work/far" "^told" 300 || fail "the far machine told nothing"
    for _ in $(seq 20); do
        : >"$work/vm"; echo told >&4; says "$work/vm" "^told" 50 || fail "no word of the machine"
        told=$(sed -n 's/^told //p' "$work/vm")
        [ "$told" -ge "$connections" ] && break 2
        sleep 0.2
    done
done
echo "$before connections of h1, $after after its death: served $took ms after it was started again; $told of $connections heard what they were told, $round times"
cp "$work/vm" "$work/out"
[ "$told" -ge "$connections" ] || fail "connections were lost"
[ "$took" -le "$serves" ] || fail "not served again within $serves ms"

# One node after the other, while connections are busy.
at acme/web/vm python3 "$work/talk.py" 100 25 >"$work/talk" 2>&1 &
talk=$!
says "$work/talk" talking 200 || { cp "$work/talk" "$work/out"; fail "connections under load"; }
for host in h1 h2 h3; do
    quietly "$selvage" lab kill $host --lab $lab && quietly "$selvage" lab start $host --lab $lab || fail "$host"
    sleep 3
done
wait $talk
cp "$work/talk" "$work/out"
grep -q "^kept 100 lost 0" "$work/talk" || fail "connections were lost"
tail -n 1 "$work/talk"
