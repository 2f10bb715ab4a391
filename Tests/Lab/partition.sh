#!/bin/bash
# Ten seconds in which the hosts are in two parts, each with clients that open connections through the same translating router:
# all know the same soon after, and no two connections came to look alike.
#   partition.sh BINARY
lab=test-partition; . "$(dirname "$0")/lib.sh"
cat >"$work/net.yaml" <<'YAML'
tunnel: vxlan
tenants:
  acme:
    bridges:
      web: { subnet: 10.0.1.0/24, ports: [one, two] }
      internet: { ports: [left, right] }
    routers:
      edge:
        links: [{ bridge: web }, { bridge: internet, address: 203.0.113.1/24 }]
        nat: [{ source: 10.0.1.0/24, outPort: edge/internet, action: snat 203.0.113.5 }]
lab:
  hosts: [h1, h2, h3]
  machines:
    acme/web/one: { host: h1, address: 10.0.1.11/24 }
    acme/web/two: { host: h2, address: 10.0.1.12/24 }
    acme/internet/left: { host: h1, address: 203.0.113.80/24 }
    acme/internet/right: { host: h3, address: 203.0.113.81/24 }
YAML
cat >"$work/server.py" <<'PY'
import resource, select, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
listeners = [socket.create_server((sys.argv[1], 8080 + number), backlog=4096) for number in range(40)]
print("ready", flush=True)
kept = []
while True:
    for listener in select.select(listeners, [], [])[0]:
        kept.append(listener.accept()[0])
PY
cat >"$work/client.py" <<'PY'
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
kept, failed = [], 0
# Both clients use the same ports, so that each wants what the other has. A host that is alone gets no more ports than it
# had: 64 towards each remote end.
port, end = 20000, time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    s = socket.socket()
    s.settimeout(3)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind(("", port))
        s.connect((sys.argv[1], 8080 + port % 40))
        kept.append(s)
    except OSError:
        failed += 1
    port += 1
    time.sleep(0.005)
print("opened", len(kept), "failed", failed, flush=True)
sys.stdin.readline()
PY
up
at acme/internet/left python3 "$work/server.py" 203.0.113.80 >"$work/left" 2>&1 &
at acme/internet/right python3 "$work/server.py" 203.0.113.81 >"$work/right" 2>&1 &
says "$work/left" ready && says "$work/right" ready || fail "no servers"
mkfifo "$work/go1" "$work/go2"
at acme/web/one python3 "$work/client.py" 203.0.113.80 12 <"$work/go1" >"$work/one" 2>&1 &
at acme/web/two python3 "$work/client.py" 203.0.113.81 12 <"$work/go2" >"$work/two" 2>&1 &
exec 3>"$work/go1" 4>"$work/go2"
quietly "$selvage" lab partition h1 h2,h3 --lab $lab || fail "partition"
says "$work/one" opened 300 && says "$work/two" opened 100
cat "$work/one" "$work/two" >"$work/out"
for side in one two; do
    read -r _ opened _ failed < <(grep opened "$work/$side")
    [ "${opened:-0}" -gt 300 ] && [ "$failed" -le 3 ] || fail "$side was not busy, or not served, while the hosts were apart"
done
quietly "$selvage" state diff h1 h2 --lab $lab && fail "the hosts know the same while they are apart"
quietly "$selvage" lab heal --lab $lab || fail "heal"
healed=$(now)
until quietly "$selvage" state diff h1 h2 --lab $lab && quietly "$selvage" state diff h2 h3 --lab $lab; do
    [ $(($(now) - healed)) -lt 20000 ] || fail "they know differently long after"
    sleep 0.05
done
took=$(($(now) - healed))
[ $took -lt 3000 ] || fail "it took $took ms until all knew the same"
"$selvage" state list --json --lab $lab 2>/dev/null | python3 -c '
import json, sys
# What a translated connection looks like outside is that of one connection alone.
outside, count = {}, 0
for host, answer in json.load(sys.stdin).items():
    for one in answer["translations"]:
        count += 1
        inside = outside.setdefault(one["becomes"], one["connection"])
        if inside != one["connection"]:
            sys.exit("%s is %s and %s" % (one["becomes"], inside, one["connection"]))
if count < 900:
    sys.exit(f"only {count} are listed")' || fail "two connections look alike"
echo "go" >&3; echo "go" >&4
echo "$(cat "$work/one"); $(cat "$work/two"); all knew the same $took ms after they met again"
