#!/bin/bash
# Connections that leave by one host and come back by another: through a router that translates and filters, from the first packet,
# with datagrams between the nodes lost; and once more after the first host's node died and is there again.
#   asymmetric.sh BINARY     in the environment: CONNECTIONS (1000), LOSS (1 in a hundred), MOST (that are late, 1 in a thousand)
lab=test-asymmetric; . "$(dirname "$0")/lib.sh"
connections=${CONNECTIONS:-1000} loss=${LOSS:-1}
most=${MOST:-$((connections / 1000))}
# What the host that answers come back by had to ask others for.
asked() {
    "$selvage" state peers --lab $lab --host h3 --json |
        python3 -c 'import json, sys; print(dict(list(json.load(sys.stdin).values())[0]["counters"])["asked others for a packet"])'
}
cat >"$work/net.yaml" <<'YAML'
tunnel: gre
tenants:
  acme:
    portGroups: [{ name: outside, stateful: false }]
    chains:
      known:
        - { state: [established, related], action: accept }
        - { source: 10.0.1.0/24, protocol: tcp, destinationPort: 8080, action: accept }
        - { source: 10.0.1.0/24, protocol: udp, destinationPort: 8080, action: accept }
        - { action: drop }
    bridges:
      web: { subnet: 10.0.1.0/24, ports: [vm] }
      # What is outside has a port on each of two hosts, and sends its answers by the other one.
      internet: { ports: { far: { groups: [outside] }, near: { groups: [outside] } } }
    routers:
      edge:
        inbound: known
        links: [{ bridge: web }, { bridge: internet, address: 203.0.113.1/24 }]
        nat: [{ source: 10.0.1.0/24, outPort: edge/internet, action: snat 203.0.113.5 }]
lab:
  hosts: [h1, h2, h3]
  machines:
    acme/web/vm: { host: h1, address: 10.0.1.11/24 }
    acme/internet/far: { host: h2, address: 203.0.113.80/24 }
    acme/internet/near: { host: h3, address: 203.0.113.81/24 }
YAML
cat >"$work/server.py" <<'PY'
import resource, select, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
listener = socket.create_server(("203.0.113.80", 8080), backlog=4096)
print("ready", flush=True)
poll, kept = select.epoll(), {}
poll.register(listener, select.EPOLLIN)
while True:
    for number, _ in poll.poll():
        if number == listener.fileno():
            s, _ = listener.accept()
            kept[s.fileno()] = s
            poll.register(s, select.EPOLLIN)
        elif data := kept[number].recv(100):
            kept[number].sendall(data)
        else:
            kept.pop(number).close()
PY
cat >"$work/client.py" <<'PY'
import resource, socket, sys, time
count, stay = int(sys.argv[1]), sys.argv[2] == "stay"
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
late = failed = 0
times, kept = [], []
for _ in range(count):
    began = time.monotonic()
    try:
        s = socket.create_connection(("203.0.113.80", 8080), timeout=3)
    except OSError:
        failed += 1
        continue
    took = time.monotonic() - began
    times.append(took)
    # The first segment is sent again after a second (RFC 6298).
    late += took > 0.5
    kept.append(s)
times.sort()
print("opened", len(times), "late", late, "failed", failed, "median_ms %.2f" % (times[len(times) // 2] * 1e3), flush=True)
if stay:
    sys.stdin.readline()
    lost = 0
    for s in kept:
        try:
            s.settimeout(3)
            s.sendall(b"x")
            lost += s.recv(1) != b"x"
        except OSError as error:
            lost += 1
            if lost < 5:
                print("lost", s.getsockname(), error, flush=True)
    print("kept", len(kept) - lost, "lost", lost, flush=True)
PY
cat >"$work/later.py" <<'PY'
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("203.0.113.80", 8080))
print("ready", flush=True)
while True:
    data, peer = s.recvfrom(100)
    time.sleep(0.02)
    s.sendto(data, peer)
PY
cat >"$work/ask.py" <<'PY'
import socket, sys
answered = 0
kept = []
for _ in range(int(sys.argv[1])):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    kept.append(s)
    s.settimeout(1)
    s.sendto(b"?", ("203.0.113.80", 8080))
    try:
        answered += s.recv(100) == b"?"
    except OSError:
        pass
print("answered", answered)
PY
up
# The way back: a cable behind Selvage's back, over which the far machine sends its answers to the near one.
pid=$(process_at acme/internet/near) || fail "no machine"
at acme/internet/far ip link add back type veth peer name back netns "$pid" || fail "no cable"
for side in far near; do
    at acme/internet/$side ip link set back up
    at acme/internet/$side sh -c 'for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done'
done
at acme/internet/far ip addr add 172.31.0.1/30 dev back; at acme/internet/near ip addr add 172.31.0.2/30 dev back
at acme/internet/far ip route add 203.0.113.5/32 via 172.31.0.2 src 203.0.113.80 || fail "no route back"
at acme/internet/near sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
at acme/internet/far python3 "$work/server.py" >"$work/server" 2>&1 &
says "$work/server" ready || fail "no server"

at acme/web/vm python3 "$work/client.py" 50 go >"$work/out" || fail "connections without loss"
grep -q "^opened 50 late 0 failed 0" "$work/out" || fail "without loss"

# What is asked once is answered after a moment: whoever is to be told ahead of the first packet is told by then.
at acme/internet/far python3 "$work/later.py" >"$work/later" 2>&1 &
says "$work/later" ready || fail "no server"
before=$(asked)
at acme/web/vm python3 "$work/ask.py" 200 >"$work/out" 2>&1 && grep -q "^answered 200" "$work/out" || fail "questions by UDP"
others=$(($(asked) - before))
[ "$others" -ge 200 ] || fail "h3 knew what it was never told: it asked $others times about 200"
# Ports that stand in for each other: h3 is told ahead of the first packet, and asks nobody.
sed -i 's/stateful: false/stateful: true/' "$work/net.yaml"
quietly "$selvage" lab apply "$work/net.yaml" --lab $lab || fail "lab apply"
before=$(asked)
at acme/web/vm python3 "$work/ask.py" 200 >"$work/out" 2>&1 && grep -q "^answered 200" "$work/out" || fail "questions by ports that stand in"
own=$(($(asked) - before))
[ "$own" -le 4 ] || fail "h3 asked $own times about 200 for what it was to be told"
echo "of 200 answers by the other host it asked about $others, and where its port stands in about $own"

# Each host drops one in a hundred of what other nodes tell it.
if [ "$loss" -gt 0 ]; then
    for host in h1 h2 h3; do lossy $host $((100 / loss)) udp 7420; done
fi
mkfifo "$work/go"
at acme/web/vm python3 "$work/client.py" "$connections" stay <"$work/go" >"$work/stay" 2>&1 &
client=$!
exec 3>"$work/go"
says "$work/stay" opened 900
read -r _ opened _ late _ failed _ < <(cat "$work/stay")
cp "$work/stay" "$work/out"
[ "${opened:-0}" = "$connections" ] && [ "$failed" = 0 ] || fail "not all connections were opened: $(cat "$work/stay")"
[ "$late" -le "$most" ] || fail "$late of $connections first answers did not pass at once"
if [ "$loss" -gt 0 ]; then
    dropped=0
    for host in h1 h2 h3; do dropped=$((dropped + $(lost $host))); done
    [ "$dropped" -gt 0 ] || fail "nothing was lost"
fi
echo "$connections connections, $late late, ${dropped:-0} datagrams lost"

# The node that they came back by dies, and knows them when it is there again.
"$selvage" lab kill h3 --lab $lab >/dev/null && "$selvage" lab start h3 --lab $lab >/dev/null || fail "h3 did not come back"
echo go >&3; exec 3>&-
wait $client
cp "$work/stay" "$work/out"
cat "$work/server" >>"$work/out"
grep -q "^kept $connections lost 0" "$work/stay" || fail "connections were lost: $(tail -n 1 "$work/stay")"
