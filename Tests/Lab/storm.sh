#!/bin/bash
# A machine that asks for addresses 5,000 times a second, each time as another one: first packets of others on its host go on as
# if nothing was, and those who really need an address get one.
#   storm.sh BINARY       MOST in the environment: milliseconds that connecting may take at the median (1)
lab=test-storm; . "$(dirname "$0")/lib.sh"
cat >"$work/net.yaml" <<'YAML'
tunnel: vxlan
tenants:
  acme:
    securityGroups:
      all: { in: [{ protocol: tcp }] }
    bridges:
      web:
        dhcp: [{ subnet: 10.0.0.0/16, range: [10.0.4.0-10.0.200.255], lease: 600 }]
        ports:
          storm: {}
          client: { security: all }
          server: { security: all }
          late: {}
lab:
  hosts: [h1, h2]
  machines:
    acme/web/storm: { host: h1, address: 10.0.1.10/16 }
    acme/web/client: { host: h1, address: 10.0.1.11/16 }
    acme/web/server: { host: h2, address: 10.0.1.12/16 }
    acme/web/late: { host: h1 }
YAML
cat >"$work/storm.py" <<'PY'
"""Asks for addresses with MACs that nobody has, so many times a second."""
import random, socket, struct, sys, time
rate, seconds = int(sys.argv[1]), float(sys.argv[2])
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
def frame(number):
    mac = b"\x02\x55" + struct.pack("!I", number)
    bootp = struct.pack("!BBBBIHH", 1, 1, 6, 0, number, 0, 0x8000) + bytes(16) + mac + bytes(10 + 192) + b"\x63\x82\x53\x63"
    data = bootp + b"\x35\x01\x01\xff"
    udp = struct.pack("!HHHH", 68, 67, 8 + len(data), 0) + data
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    total = sum(struct.unpack("!10H", head)); total = (total >> 16) + (total & 0xffff); total += total >> 16
    head = head[:10] + struct.pack("!H", ~total & 0xffff) + head[12:]
    return b"\xff" * 6 + mac + b"\x08\x00" + head + udp
begun = time.monotonic(); sent = 0
while (passed := time.monotonic() - begun) < seconds:
    while sent < passed * rate:
        try:
            raw.send(frame(random.getrandbits(32)))
        except OSError:
            pass
        sent += 1
    time.sleep(0.001)
print("sent", sent, "in %.1f s" % (time.monotonic() - begun))
PY
cat >"$work/connect.py" <<'PY'
"""Connects for some seconds, each time by other ports; tells how long it takes."""
import socket, sys, time
times = []; begun = time.monotonic()
while time.monotonic() - begun < float(sys.argv[1]):
    with socket.socket() as s:
        s.settimeout(3)
        at = time.monotonic()
        s.connect(("10.0.1.12", 7000))
        times.append((time.monotonic() - at) * 1000)
    time.sleep(0.003)
times.sort()
print(len(times), "%.3f" % times[len(times) // 2], "%.3f" % times[len(times) * 99 // 100])
PY
up
at acme/web/server python3 -c "
import socket
s = socket.create_server(('0.0.0.0', 7000), backlog=1024); print('ready', flush=True)
while True: s.accept()[0].close()" >"$work/server" 2>&1 &
says "$work/server" ready || fail "no server"
read -r count quiet late <<<"$(at acme/web/client python3 "$work/connect.py" 3)"
echo "quiet: $count connections, median $quiet ms, 99 of 100 within $late ms"
at acme/web/storm python3 "$work/storm.py" 5000 6 >"$work/sent" 2>&1 & storm=$!
says "$work/sent" . 5
read -r count median late <<<"$(at acme/web/client python3 "$work/connect.py" 4)"
echo "storm: $count connections, median $median ms, 99 of 100 within $late ms"
# Somebody really needs an address meanwhile.
cat >"$work/script" <<'SH'
#!/bin/sh
[ "$reason" = BOUND ] && echo "bound $new_ip_address"
exit 0
SH
chmod +x "$work/script"
timeout 10 "$selvage" lab exec --lab $lab acme/web/late -- dhclient -4 -1 -d -sf "$work/script" -lf "$work/leases" -pf "$work/pid" eth0 >"$work/late" 2>&1 &
says "$work/late" "bound to 10\.0\." 50 || fail "who needs an address gets none: $(tail -3 "$work/late")"
wait $storm; cat "$work/sent"
rate=$(awk '/^sent/ { printf "%d", $2 / $4 }' "$work/sent")
[ "$rate" -ge 4500 ] || fail "the storm was one of $rate a second only"
awk -v median="$median" -v most="${MOST:-1}" 'BEGIN { exit !(median < most) }' || fail "others waited $median ms"
echo passed
