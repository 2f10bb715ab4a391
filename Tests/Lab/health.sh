#!/bin/bash
# Members that are checked: one that dies under load costs its own connections only and is out within the monitor's promise;
# one that is well again is back; who checks is replaced in a second when its host dies; every kind of check tells well from ill.
#   health.sh BINARY
lab=test-health; . "$(dirname "$0")/lib.sh"
cat >"$work/net.yaml" <<'YAML'
tunnel: vxlan
tenants:
  shop:
    bridges:
      web: { subnet: [10.0.1.0/24, "fd00:1::/64"], ports: [www1, www2, www3] }
      internet: { ports: [client] }
    pools:
      www:
        # Out after 3 x 0.3 + 0.2 s.
        monitor: { type: http, path: /up, status: [200, 204], delay: 0.3, timeout: 0.2, fall: 3, rise: 2 }
        members: [{ address: 10.0.1.11, port: 8081 }, { address: 10.0.1.12, port: 8081 }, { address: 10.0.1.13, port: 8081 }]
      tcp: { monitor: { type: tcp, delay: 0.3 }, members: [{ address: 10.0.1.11, port: 8081 }, { address: 10.0.1.11, port: 9 }, { address: 10.0.1.77, port: 80 }] }
      sick: { monitor: { type: http, path: /sick, delay: 0.3 }, members: [{ address: 10.0.1.11, port: 8081 }] }
      secure: { monitor: { type: https, delay: 0.5, port: 8443 }, members: [{ address: 10.0.1.12 }, { address: 10.0.1.11 }] }
      names: { monitor: { type: udp, delay: 0.3, port: 53 }, members: [10.0.1.12, 10.0.1.13] }
      alive: { monitor: { type: ping, delay: 0.3 }, members: [10.0.1.11, 10.0.1.78] }
      six: { monitor: { type: ping, delay: 0.3 }, members: ["fd00:1::11", "fd00:1::77"] }
    routers:
      edge:
        links: [{ bridge: web }, { bridge: internet, address: [203.0.113.1/24, "2001:db8::1/64"] }]
        vips:
          - { id: www, address: 203.0.113.10, port: 80, pool: www }
          - { id: tcp, address: 203.0.113.10, port: 81, pool: tcp }
          - { id: sick, address: 203.0.113.10, port: 82, pool: sick }
          - { id: secure, address: 203.0.113.10, port: 443, pool: secure }
          - { id: names, address: 203.0.113.10, protocol: udp, port: 53, pool: names }
          - { id: alive, address: 203.0.113.10, port: 83, pool: alive }
          - { id: six, address: "2001:db8::10", port: 83, pool: six }
lab:
  hosts: [h1, h2, h3]
  machines:
    shop/web/www1: { host: h1, address: [10.0.1.11/24, "fd00:1::11/64"] }
    shop/web/www2: { host: h2, address: 10.0.1.12/24 }
    shop/web/www3: { host: h3, address: 10.0.1.13/24 }
    shop/internet/client: { host: h2, address: 203.0.113.99/24 }
YAML
cat >"$work/web.py" <<'PY'
"""A server of one thread for each connection; /sick is answered with 503. Tells its name."""
import http.server
import sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = sys.argv[1].encode()
        self.send_response(503 if self.path == "/sick" else 204 if self.path == "/up" else 200)
        if self.path == "/up":
            body = b""
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
server = Server(("0.0.0.0", 8081), Handler)
print("ready", flush=True)
server.serve_forever()
PY
up
declare -A servers
serve() {
    rm -f "$work/www$1"
    at "shop/web/www$1" sh -c 'echo $$; exec python3 "$0" "$1"' "$work/web.py" "www$1" >"$work/www$1" 2>&1 &
    says "$work/www$1" ready || fail "no server"
    servers[$1]=$(head -1 "$work/www$1")
}
for number in 1 2 3; do serve $number; done
at shop/web/www2 sh -c "cd $work && openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 2 -subj /CN=www2 2>/dev/null && exec openssl s_server -accept 8443 -key key -cert cert -www" >"$work/secure" 2>&1 &
at shop/web/www2 python3 -c "
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', 53)); print('ready', flush=True); time.sleep(600)" >"$work/udp" 2>&1 &
says "$work/udp" ready || fail "no UDP server"

# health POOL MEMBER: as one line of the table.
health() { "$selvage" member "shop/$1" --lab $lab 2>&1 | grep -F "$2 "; }
# becomes POOL MEMBER PATTERN: waits (15 s) for it.
becomes() {
    local _ line
    for _ in $(seq 150); do line=$(health "$1" "$2"); echo "$line" | grep -qE "$3" && { echo "$line"; return 0; }; sleep 0.1; done
    "$selvage" member "shop/$1" --lab $lab; fail "$2 of $1 does not become $3"
}
becomes tcp 10.0.1.11:8081 ' up +answered'
becomes tcp 10.0.1.11:9 ' down +connection refused'
becomes tcp 10.0.1.77:80 ' down +(no way|no answer)'
becomes sick 10.0.1.11:8081 ' down +answered with status 503'
becomes secure 10.0.1.12 ' up +answered with status 200'
becomes secure 10.0.1.11 ' down +connection refused'
becomes names 10.0.1.12 ' up +answered'
becomes names 10.0.1.13 ' down +connection refused'
becomes alive 10.0.1.11 ' up +answered'
becomes alive 10.0.1.78 ' down '
becomes six fd00:1::11 ' up +answered'
becomes six fd00:1::77 ' down '
for number in 1 2 3; do becomes www 10.0.1.1$number:8081 ' up +answered with status 204'; done

# Nobody serves what is sick: refused at once. The port that checks is not in what is exported, and applying that changes nothing.
at shop/internet/client curl -sS -m 3 -o /dev/null http://203.0.113.10:82/ 2>"$work/out" && fail "a pool whose members are down took a connection"
grep -q "Couldn't connect" "$work/out" || fail "it was not refused at once"
"$selvage" trace shop/internet/client 'tcp to 203.0.113.10:81' --lab $lab | tee "$work/out" | grep -E 'pool tcp' || fail trace
"$selvage" export --lab $lab >"$work/export.yaml" || fail export
grep -q selvage-monitor "$work/export.yaml" && fail "the port for checks is exported"
quietly "$selvage" apply "$work/export.yaml" --dry-run --lab $lab || fail "apply --dry-run"
grep -qi 'nothing' "$work/out" || fail "what was exported is not what is"

# One dies under load: a new connection each request.
at shop/internet/client python3 - >"$work/load" 2>&1 <<'PY' &
import socket, time
begun = time.monotonic(); count = 0
while time.monotonic() - begun < 8:
    at = time.time()
    try:
        with socket.create_connection(("203.0.113.10", 80), timeout=1) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            data = b""
            while True:
                got = s.recv(4096)
                if not got: break
                data += got
            why = "" if data.endswith((b"www1", b"www2", b"www3")) else "answered %r" % data
    except OSError as error:
        why = str(error)
    if why:
        print("failed %.3f %s" % (at, why))
    count += 1
    if count == 500:
        print("going", flush=True)
print("requests", count)
PY
load=$!
says "$work/load" going || fail "the load does not begin"
died=$(date +%s.%N)
at shop/web/www3 sh -c "kill -9 ${servers[3]}"
becomes www 10.0.1.13:8081 ' down +connection refused'
wait $load; cp "$work/load" "$work/out"
awk -v died="$died" '/^failed/ { bad++; gap = $2 - died } /^requests/ { print $2 " requests, " bad + 0 " failed, the last " gap " s after the death"; exit !(gap <= 1.6) }' "$work/load" || fail "it was not out in time"
# Nobody new comes to it.
at shop/internet/client wrk -t 1 -c 16 -d 2 -H 'Connection: close' http://203.0.113.10/ >"$work/out" 2>&1 || fail wrk
grep -E 'Socket errors|requests in' "$work/out"
grep -q 'Socket errors: connect [1-9]' "$work/out" && fail "wrk came to the dead one"
serve 3
becomes www 10.0.1.13:8081 ' up +answered with status 204'
at shop/internet/client sh -c 'for n in $(seq 60); do curl -sS -m 5 http://203.0.113.10/; echo; done' | sort | uniq -c | tee "$work/out"
grep -q www3 "$work/out" || fail "it got nothing when it was back"

# When one dies under wrk, that costs the connections that were with it: five of fifteen, and none of the others' ten. (How many
# wrk counts says less: the kernel closes what a killed server served before it closes where it listens, and wrk comes again.)
kept() { for number in 1 2; do at shop/web/www$number ss -Htn state established 'sport = :8081' | awk '$4 ~ /203\.0\.113\.99/ { print $3, $4 }'; done | sort; }
at shop/internet/client wrk -t 1 -c 15 -d 6 http://203.0.113.10/ >"$work/load" 2>&1 &
load=$!
sleep 2
kept >"$work/before"; [ "$(wc -l <"$work/before")" -ge 10 ] || { cp "$work/before" "$work/out"; fail "wrk has too few connections"; }
at shop/web/www3 sh -c "kill -9 ${servers[3]}"
becomes www 10.0.1.13:8081 ' down +connection refused'
kept >"$work/after"
comm -23 "$work/before" "$work/after" >"$work/out"; [ ! -s "$work/out" ] || fail "it cost others their connections"
wait $load || { cp "$work/load" "$work/out"; fail wrk; }
grep -E 'Socket errors|requests in' "$work/load"; cp "$work/load" "$work/out"
grep -q 'Socket errors' "$work/load" && { grep -qE 'timeout 0' "$work/load" || fail "connections hang"; }
serve 3
becomes www 10.0.1.13:8081 ' up +answered with status 204'

# The host that checks dies.
place() { "$selvage" get port shop/edge/selvage-monitor --lab $lab -o json | sed -n 's/.*"host" : "\(.*\)".*/\1/p'; }
old=$(place); [ -n "$old" ] || fail "nobody checks"
leader=$("$selvage" cluster list --lab $lab 2>/dev/null | awk '/leader/ { print $1; exit }')
echo "checked from $old, the leader is $leader"
began=$(now)
quietly "$selvage" lab kill "$old" --lab $lab || fail "lab kill"
for _ in $(seq 100); do new=$(place 2>/dev/null); [ -n "$new" ] && [ "$new" != "$old" ] && break; sleep 0.05; done
[ "$new" != "$old" ] || fail "nobody checks in place of $old"
echo "checked from $new $(($(now) - began)) ms after"
quietly "$selvage" lab start "$old" --lab $lab || fail "lab start"
at shop/web/www2 sh -c "kill -9 ${servers[2]}"
becomes www 10.0.1.12:8081 ' down +connection refused'
for number in 1 3; do becomes www 10.0.1.1$number:8081 ' up +answered with status 204'; done

# A router that has nothing to check has no port for it, and goes with it.
quietly "$selvage" delete router shop/edge --cascade --lab $lab || fail delete
"$selvage" get ports --lab $lab | grep selvage-monitor && fail "the port for checks is left"
echo passed
