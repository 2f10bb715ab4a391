#!/bin/bash
# A virtual address under load: members get their shares, and connections stay with theirs while members drain and come, a
# member moves to another host, and the node where they come in dies.
#   balance.sh BINARY        LEAST in the environment: connections that there must be (1000)
lab=test-balance; . "$(dirname "$0")/lib.sh"
cat >"$work/net.yaml" <<'YAML'
tunnel: gre
tenants:
  shop:
    bridges:
      web: { subnet: 10.0.1.0/24, ports: [www1, www2, www3] }
      internet: { ports: [client] }
    pools:
      www:
        members:
          - { address: 10.0.1.11, port: 8081 }
          - { address: 10.0.1.12, port: 8081, weight: 2 }
          - { address: 10.0.1.13, port: 8081 }
      talk: { members: [{ address: 10.0.1.11, port: 8080 }] }
    routers:
      edge:
        links: [{ bridge: web }, { bridge: internet, address: 203.0.113.1/24 }]
        vips:
          - { id: www, address: 203.0.113.10, port: 80, pool: www }
          - { id: talk, address: 203.0.113.10, port: 8080, pool: talk }
lab:
  hosts: [h1, h2, h3]
  machines:
    shop/web/www1: { host: h1, address: 10.0.1.11/24 }
    shop/web/www2: { host: h2, address: 10.0.1.12/24 }
    shop/web/www3: { host: h3, address: 10.0.1.13/24 }
    shop/internet/client: { host: h2, address: 203.0.113.99/24 }
YAML
cat >"$work/web.py" <<'PY'
"""Answers any request with a page, and tells how many connections there were when it is asked for /count."""
import asyncio
import sys
count = 0
async def serve(reader, writer):
    global count
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /count"):
            body = str(count).encode()
        elif head.startswith(b"GET /who"):
            body = f"{sys.argv[1]} {writer.get_extra_info('peername')[0]}".encode()
        else:
            count += 1
            body = sys.argv[1].encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", 8081, backlog=1024)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
PY
up
for number in 1 2 3; do
    at shop/web/www$number python3 "$work/web.py" www$number >"$work/www$number" 2>&1 &
    says "$work/www$number" ready || fail "no server"
done
counts() { for number in 1 2 3; do at shop/internet/client curl -sS -m 5 "http://10.0.1.1$number:8081/count"; echo; done | tr '\n' ' '; }

# As many connections as there is time for, each request its own.
at shop/internet/client wrk -t 1 -c 16 -d 4 -H 'Connection: close' http://203.0.113.10/ >"$work/out" 2>&1 || fail wrk
grep -q 'Socket errors' "$work/out" && fail "wrk saw errors"
grep -E 'requests in|Requests/sec' "$work/out"
read -r -a got <<<"$(counts)"
sum=$((got[0] + got[1] + got[2]))
echo "connections ${got[*]}"
[ $sum -gt "${LEAST:-1000}" ] || fail "$sum connections"
for place in 0 1 2; do
    weight=$((place == 1 ? 2 : 1))
    awk -v got="${got[$place]}" -v want=$((sum * weight)) 'BEGIN { exit !(got >= 0.95 * want / 4 && got <= 1.05 * want / 4) }' ||
        fail "www$((place + 1)) got ${got[$place]} of $sum"
done

# A member that asks the virtual address is seen by its own name, and only one that asks itself is not.
for _ in $(seq 12); do at shop/web/www3 curl -sS -m 5 http://203.0.113.10/who; echo; done >"$work/out" 2>&1
sort "$work/out" | uniq -c
[ "$(grep -cE '^www[12] 10\.0\.1\.13$' "$work/out")" -ge 6 ] || fail "neighbors do not see who asks"
grep -vE '^www[12] 10\.0\.1\.13$|^www3 10\.0\.1\.1$' "$work/out" && fail "a neighbor is seen as somebody else"
at shop/web/www3 curl -sS -m 5 http://10.0.1.11:8081/who | grep -q '^www1 10.0.1.13$' || fail "a neighbor can't be asked by its own name"

# A connection goes on while its member drains, moves, and the node where it comes in dies and is there again.
at shop/web/www1 python3 "$here/echo.py" serve >"$work/server" 2>&1 &
says "$work/server" ready || fail "no server"
at shop/internet/client python3 "$here/echo.py" talk 203.0.113.10 9 >"$work/talk" 2>&1 &
talk=$!
says "$work/talk" connected || fail "it does not connect"
second_cable shop/web/www1 h3 10.0.1.11/24 10.0.1.1
quietly "$selvage" member shop/talk 10.0.1.11:8080 --state drain --wait --lab $lab || fail member
quietly "$selvage" migrate shop/web/www1 h3 --interface tap1 --lab $lab || fail migrate
quietly "$selvage" lab kill h2 --lab $lab || fail "lab kill"
quietly "$selvage" lab start h2 --lab $lab || fail "lab start"
wait $talk || fail "the connection did not go on: $(cat "$work/talk")"
cat "$work/talk"
at shop/internet/client curl -sS -m 3 -o /dev/null http://203.0.113.10:8080/ 2>"$work/out" && fail "a pool that drains took a new connection"
grep -q "Couldn't connect" "$work/out" || fail "a new connection was not refused at once"
