#!/bin/bash
# What operators see of sessions that go wrong - another system, another password, too many routes, a peer that comes and goes, a
# snippet that is none - and that others are left alone; and how soon all nodes know 10,000 routes.
#   sessions.sh BINARY    in the environment: ROUTES (10000), WITHIN (2000, milliseconds), DAEMON (bird: of the uplinks)
lab=test-sessions; . "$(dirname "$0")/lib.sh"
routes=${ROUTES:-10000} within=${WITHIN:-2000}
sed -e '/^  expect:/,$d' "$here/../../cluster-examples/multihomed.yaml" >"$work/net.yaml"
sed -i "s/^\( *\)interface: isp.$/&\n\1daemon: ${DAEMON:-bird}/" "$work/net.yaml"
case ${DAEMON:-bird} in
bird)
    nonsense='protocol nonsense { }' refused='snippet:1:' system='Bad peer AS'
    more='protocol static more { ipv4; route 192.0.2.128\/25 via 100.64.2.5; }' ;;
frr) nonsense='protocol nonsense' refused='snippet, line 1: ' system='Bad Peer AS' more='ip route 192.0.2.128\/25 100.64.2.5' ;;
esac
status() { "$selvage" bgp status --lab $lab "$@"; }
# told PATTERN WHAT: waits until bgp status has a line.
told() {
    local _
    for _ in $(seq 300); do status >"$work/out" 2>/dev/null && grep -q -- "$1" "$work/out" && return 0; sleep 0.1; done
    fail "$2"
}
# others COUNT: so many sessions have been established since they were first.
others() {
    status --json >"$work/status"
    python3 - "$work/status" "$work/before" "$1" <<'PY' || { status >"$work/out"; fail "others were not left alone"; }
import json, sys
def sessions(file):
    return {p["address"]: p.get("sinceMilliseconds") for h in json.load(open(file)).values() for u in h for p in u["peers"] if p["state"] == "established"}
now, before = sessions(sys.argv[1]), sessions(sys.argv[2])
kept = [a for a in now if before.get(a) == now[a]]
sys.exit(0 if len(kept) >= int(sys.argv[3]) else f"kept {kept} of {before}")
PY
}
change() { status --json >"$work/before"; "$selvage" export --lab $lab | sed "$@" >"$work/new.yaml"; quietly "$selvage" apply "$work/new.yaml" --wait --lab $lab || fail "apply: $*"; }
up
for _ in $(seq 100); do [ "$(status 2>/dev/null | grep -c ' established ')" = 4 ] && break; sleep 0.1; done
sleep 2
"$selvage" export --lab $lab >"$work/good.yaml"
good() { quietly "$selvage" apply "$work/good.yaml" --wait --lab $lab || fail "apply"; }

# Bad input is refused before anything is done, and the place is told.
sed 's/as: \["65200"\]/as: ["0"]/' "$work/good.yaml" >"$work/new.yaml"
"$selvage" apply "$work/new.yaml" --lab $lab >"$work/out" 2>&1 && fail "system 0 was taken"
grep -q 'as is "0"' "$work/out" || fail "it is not told what is wrong with system 0"

change 's/address: \["100.64.1.5"\], as: \["65200"\]/address: ["100.64.1.5"], as: ["65201"]/'
told '^100.64.1.5 *65201 .*'"$system" "another system is not told"
others 3
good; told '^100.64.1.5 *65200 *established' "the session is not there again"

change 's/password: \["s3cret-1"\]/password: ["other"]/'
told '^100.64.1.1 .*\(connect\|active\|opensent\|idle\)' "another password lets the session be"
others 3
good; told '^100.64.1.1 *65100 *established' "the session is not there again"

change 's/address: \["100.64.2.1"\], as: \["65100"\]/&, limit: ["1"]/'
# FRRouting looks at the limit when it hears something more.
if [ "${DAEMON:-bird}" = frr ]; then
    told '^100.64.2.1 *65100 *established' "the session is not there with a limit"
    for _ in $(seq 50); do
        at isp1 vtysh --vty_socket /run/selvage-labs/$lab/outside/isp1 -c 'clear bgp * soft out' >"$work/out" 2>&1 || fail vtysh
        status | grep -q '^100.64.2.1 .*limit' && break; sleep 0.1
    done
fi
told '^100.64.2.1 .*limit' "a limit that was hit is not told"
others 3
good; told '^100.64.2.1 *65100 *established' "a session that was ended by its limit is not there again without one"

status --json >"$work/before"
# The operator's own part of the configuration: one that is none is left out, one that is right does what it says.
"$selvage" export --lab $lab | sed "s/\(\"h2-isp2\": {\|h2-isp2: {\)/\1 snippet: \"$nonsense\",/" >"$work/new.yaml"
grep -q nonsense "$work/new.yaml" || fail "the manifest was not changed as meant"
quietly "$selvage" apply "$work/new.yaml" --wait --lab $lab || fail apply
told "snippet is left out: .*$refused" "a snippet that is none is not told"
others 4
if [ "${DAEMON:-bird}" = frr ]; then
    # One that is well written, and can't be so.
    sed "s/$nonsense/router bgp 65009/" "$work/new.yaml" >"$work/other.yaml"
    quietly "$selvage" apply "$work/other.yaml" --wait --lab $lab || fail apply
    told 'snippet is left out: .*BGP is already running' "a snippet that can't be is not told"
    told '^100.64.2.5 *65200 *established' "a snippet that can't be takes the session along"
fi
sed -i "s/$nonsense/$more/" "$work/new.yaml"
quietly "$selvage" apply "$work/new.yaml" --wait --lab $lab || fail apply
for _ in $(seq 100); do "$selvage" trace acme/web/www2 'icmp to 192.0.2.129' --lab $lab >"$work/out"; grep -q 'h2-isp2' "$work/out" && break; sleep 0.1; done
grep -q '192.0.2.128/25 via 100.64.2.5, port provider/edge/h2-isp2' "$work/out" || fail "what the snippet says is no route"
good
for _ in $(seq 100); do "$selvage" trace acme/web/www2 'icmp to 192.0.2.129' --lab $lab >"$work/out"; grep -q '192.0.2.128/25' "$work/out" || break; sleep 0.1; done
grep -q '192.0.2.128/25' "$work/out" && fail "what a snippet said is a route still"

# What is accepted, refused, and told.
change 's/address: \["100.64.1.1"\], as: \["65100"\]/&, refuse: ["198.51.100.0\/24"], tell: ["192.0.2.0\/24"]/'
told '^100.64.1.1 *65100 *established *[0-9]* s *[23] *1 *0 ' "a route that is refused is taken, or what is not to be told is told"
good; told '^100.64.1.1 *65100 *established *[0-9]* s *[23] *2 *1 ' "the session is not as before"

# What is preferred is compared among all uplinks, and a cost that changes leaves nothing behind.
change 's/as: \["65100"\]/&, preference: ["50"]/'
ways() { for port in 1 2 3 4 5 6 7 8; do "$selvage" trace acme/web/www2 "udp 10.0.1.12:$port > 198.51.100.10:9" --lab $lab | sed -n 's/.*198.51.100.0\/24 via \(100[0-9.]*\),.*/\1/p'; done | sort -u | tr '\n' ' '; }
for _ in $(seq 100); do [ "$(ways)" = "100.64.1.5 100.64.2.5 " ] && break; sleep 0.1; done
[ "$(ways)" = "100.64.1.5 100.64.2.5 " ] || fail "what is preferred less is gone by: $(ways)"
good
for _ in $(seq 100); do [ "$(ways | wc -w)" -ge 3 ] && break; sleep 0.1; done
[ "$(ways | wc -w)" -ge 3 ] || fail "equal ways are not shared: $(ways)"

# A peer that comes and goes.
status --json >"$work/before"
for _ in 1 2 3; do
    at isp2 ip link set link0 down; told '^100.64.1.5 .*idle' "the peer is not gone"
    at isp2 ip link set link0 up; told '^100.64.1.5 *65200 *established' "the peer is not there again"
done
others 3

# Many routes: as soon as the daemons have them, so do all nodes.
files=/run/selvage-labs/$lab
python3 - "$routes" >"$work/many" <<'PY'
import sys
print("protocol static many { ipv4;")
for n in range(int(sys.argv[1])):
    print(f"  route {20 + n // 65536}.{n // 256 % 256}.{n % 256}.0/24 blackhole;")
print("}")
PY
cat "$files/outside/outside/bird.conf" "$work/many" >"$work/bird.conf"
cat >"$work/watch.py" <<'PY'
# Waits until daemons, and then all nodes, have so many routes; prints when each had.
import json, socket, subprocess, sys, time
files, count = sys.argv[1], int(sys.argv[2])
def metrics(host):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(f"{files}/{host}.sock")
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while more := s.recv(65536):
            data += more
    figures = {}
    for line in data.decode().splitlines():
        if line.startswith("selvage_learned_routes"):
            figures["learned"] = float(line.split()[-1])
        if line.startswith("selvage_uplink_routes"):
            figures["uplink"] = min(figures.get("uplink", 1e9), float(line.split()[-1]))
    return figures
had, known, end = {}, {}, time.time() + 60
while time.time() < end:
    for host in ("h1", "h2", "h3"):
        figures = metrics(host)
        if host != "h3" and host not in had and figures.get("uplink", 0) >= count:
            had[host] = time.time()
        if host not in known and figures.get("learned", 0) >= count:
            known[host] = time.time()
    if len(had) == 2 and len(known) == 3:
        first = min(had.values())
        print("all", int((max(known.values()) - first) * 1000), "daemons", int((max(had.values()) - first) * 1000))
        sys.exit()
    time.sleep(0.02)
print("not all", had, known)
PY
python3 "$work/watch.py" "$files" "$routes" >"$work/watched" 2>&1 & watch=$!
at outside cp "$work/bird.conf" "$files/outside/outside/bird.conf" || fail cp
at outside birdc -s "$files/outside/outside/bird.ctl" configure >"$work/out" || fail "birdc configure"
wait $watch
cp "$work/watched" "$work/out"
read -r word all _ daemons < <(cat "$work/watched")
[ "$word" = all ] || fail "not all nodes know $routes routes"
echo "$routes routes: all nodes know them $all ms after the first daemon had all of them (the last $daemons ms after it)"
[ "$all" -le $((within + daemons)) ] || fail "it took $all ms, $within at most"
"$selvage" trace acme/web/www2 'icmp to 20.0.77.1' --lab $lab >"$work/out"; grep -q '20.0.77.0/24 via 100.64' "$work/out" || fail "a route of many is not gone by"
# They go as they came.
at isp1 pkill -9 -f "bgpd -f $files" ; at isp2 pkill -9 gobgpd
for _ in $(seq 200); do [ "$("$selvage" lab exec --lab $lab h3 -- curl -s --unix-socket "$files/h3.sock" http://x/metrics | sed -n 's/^selvage_learned_routes{.*} //p')" = 0 ] && break; sleep 0.1; done
"$selvage" lab exec --lab $lab h3 -- curl -s --unix-socket "$files/h3.sock" http://x/metrics | grep '^selvage_learned_routes{.*} 0$' >"$work/out" || fail "routes of providers that are gone are there still"

# Who hears of no leader announces for as long as is said, and again as soon as there is one.
change 's/as: \["65001"\]/&, patience: ["3600000"], leaderless: ["4000"]/'
told '^  announces 203.0.113.0' "what is to be told is not"
alone=$(now)
for host in h2 h3; do quietly "$selvage" lab kill $host --lab $lab || fail "lab kill $host"; done
status() { "$selvage" bgp status --lab $lab --host h1 "$@"; }
told 'announces nothing' "a host without a leader announces for ever"
took=$(($(now) - alone))
echo "without a leader for 4 s: nothing was announced after $took ms"
[ $took -ge 4000 ] && [ $took -le 12000 ] || fail "it is not what was said"
quietly "$selvage" lab start h2 --lab $lab || fail "lab start h2"
told '^  announces 203.0.113.0' "with a leader it does not announce again"
echo passed
