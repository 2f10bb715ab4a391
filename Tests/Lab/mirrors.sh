#!/bin/bash
# Mirrors with real analyzers: tcpdump at a port, here and on another host, sees what passes a port, a bridge and a router's
# side, also what filters drop; tshark outside reads GRE and ERSPAN; conditions, lengths and limits hold, and a mirror whose
# target is gone costs nothing.
#   mirrors.sh BINARY
lab=test-mirrors; . "$(dirname "$0")/lib.sh"
cat >"$work/net.yaml" <<'YAML'
tunnel: vxlan
tenants:
  acme:
    chains: { quiet: [{ id: no, protocol: udp, destinationPort: 9, action: drop }] }
    bridges:
      office: { subnet: 10.0.1.0/24, ports: { desk: { inbound: quiet }, phone: {} } }
      servers: { subnet: 10.0.2.0/24, ports: [web] }
      security: { ports: [ids, far] }
    routers:
      gw: { links: [{ bridge: office }, { bridge: servers }] }
    mirrors:
      watch: { from: office/desk, to: security/ids, match: [{ protocol: icmp }, { protocol: udp, destinationPort: [9, 7] }] }
      behind: { from: gw/servers, direction: out, to: security/far, length: 64 }
lab:
  hosts: [h1, h2, h3]
  machines:
    acme/office/desk: { host: h1, address: 10.0.1.11/24 }
    acme/office/phone: { host: h1, address: 10.0.1.12/24 }
    acme/servers/web: { host: h2, address: 10.0.2.21/24 }
    acme/security/ids: { host: h1 }
    acme/security/far: { host: h3 }
YAML
up
capture() { # PLACE FILE FILTER...: what comes there, until the end
    local place=$1 file=$2; shift 2
    at "$place" timeout 900 tcpdump -U --immediate-mode -l -n -e -v -i eth0 "$@" >"$file" 2>"$file.err" &
    says "$file.err" 'listening on' || fail "tcpdump at $place: $(cat "$file.err")"
}
capture acme/security/ids "$work/ids" ip
capture acme/security/far "$work/far" ip
at acme/office/desk ping -c 3 -i 0.2 -w 5 10.0.1.12 >"$work/out" || fail "machines do not reach each other"
says "$work/ids" '10.0.1.11 > 10.0.1.12: ICMP echo request.*seq 3' || fail "what the machine sends is not copied: $(cat "$work/ids")"
says "$work/ids" '10.0.1.12 > 10.0.1.11: ICMP echo reply.*seq 3' || fail "what the machine gets is not copied"
# What a filter drops was there.
at acme/office/desk sh -c 'echo lost >/dev/udp/10.0.1.12/9' 2>/dev/null || at acme/office/desk bash -c 'echo lost >/dev/udp/10.0.1.12/9'
says "$work/ids" '10.0.1.11.*> 10.0.1.12.9: UDP' || fail "what is dropped is not copied: $(tail -3 "$work/ids")"
at acme/office/desk bash -c 'echo more >/dev/tcp/10.0.1.12/10' 2>/dev/null
# On the router's other side, cut, and across hosts.
at acme/office/desk ping -c 2 -i 0.2 -s 1000 -w 5 10.0.2.21 >"$work/out" || fail "the other network is not reached"
says "$work/far" 'ttl 63.*length 1028' || says "$work/far" '10.0.1.11 > 10.0.2.21: ICMP echo request' || fail "what is routed is not copied: $(cat "$work/far")"
grep -q 'ttl 63' "$work/far" || fail "it is not as it was behind the router: $(cat "$work/far")"
grep -q 'length 64: ' "$work/far" || fail "it is not cut: $(cat "$work/far")"
grep '10.0.1.12.10: Flags' "$work/ids" && fail "what no condition holds for is copied"
"$selvage" trace --lab $lab acme/office/desk 'icmp to 10.0.1.12' | tee "$work/out" | grep 'copied to acme/security/ids by mirror acme/watch' || fail "trace does not tell"
# Somebody outside, here one of the hosts' addresses, whose analyzer reads ERSPAN and GRE.
h3=$(at h3 ip -4 -br addr show dev eth0 | awk '{ split($3, a, "/"); print a[1] }')
analyze() { # FILE FIELDS...: frames of GRE at the collector, decoded
    local file=$1; shift
    at h3 timeout 120 tshark -l -n -i eth0 -f 'ip proto 47' -T fields $(printf -- '-e %s ' "$@") >"$file" 2>"$file.err" &
    says "$file.err" 'Capturing on' || fail "tshark: $(cat "$file.err")"
    # It says so before it does.
    for _ in $(seq 100); do grep -q . "$file" && break; at acme/office/desk ping -c 1 -W 1 10.0.1.12 >"$work/out"; done
    grep -q . "$file" || fail "nothing comes to the collector: $(cat "$file.err")"
}
"$selvage" export --lab $lab | sed "s|to: \[.*ids.*\]|to: [\"erspan $h3 session 77\"]|" >"$work/new.yaml"
grep -q 'erspan' "$work/new.yaml" || fail "the manifest was not changed as meant"
quietly "$selvage" apply "$work/new.yaml" --wait --lab $lab || fail "apply"
analyze "$work/erspan" erspan.spanid gre.proto ip.src ip.dst icmp.type
says "$work/erspan" "^77	0x88be	.*,10.0.1.11	.*,10.0.1.12	8" || fail "ERSPAN is not read: $(cat "$work/erspan")"
says "$work/erspan" "^77	0x88be	.*,10.0.1.12	.*,10.0.1.11	0" || fail "ERSPAN has not both ways"
sed "s|erspan $h3 session 77|gre $h3 key 99|" "$work/new.yaml" >"$work/gre.yaml"
quietly "$selvage" apply "$work/gre.yaml" --wait --lab $lab || fail "apply"
analyze "$work/gre" gre.key ip.src ip.dst icmp.type
says "$work/gre" "^0x00000063	.*,10.0.1.11	.*,10.0.1.12	8" || fail "GRE is not read: $(cat "$work/gre")"
received() { at acme/security/far ip -s -o link show eth0 | sed 's/.*RX: *bytes[^\\]*\\ *\([0-9]*\).*/\1/'; }
# A limit: of much no more is copied than that, and what is copied from goes on.
sed "s|gre $h3 key 99|acme/security/far|; s|direction: \[\"both\"\]|direction: [\"in\"]\n        limit: [\"${LIMIT:-8}M\"]|; /- { *protocol: \[\"icmp/d; /- { *protocol: \[\"udp/d; /- {.*destinationPort: .*7/d; /^ *match:/d" "$work/gre.yaml" >"$work/limit.yaml"
grep -q 'limit' "$work/limit.yaml" || fail "the manifest was not changed as meant"
quietly "$selvage" apply "$work/limit.yaml" --wait --lab $lab || fail "apply: $(cat "$work/limit.yaml")"
at acme/office/phone iperf3 -s -1 --forceflush >"$work/server" 2>&1 &
says "$work/server" 'listening' || fail iperf3
before=$(received)
at acme/office/desk iperf3 -u -b ${OFFERED:-40}M -t 5 -c 10.0.1.12 --forceflush >"$work/out" 2>&1 || fail iperf3
after=$(received)
# What the sender could not send on a slow machine is not what copies cost: what was lost of what it sent would be.
grep receiver "$work/out" | sed 's/.*(\([0-9.]*\)%).*/\1/' | awk '{ found = 1; exit !($1 < 5) } END { if (!found) exit 1 }' ||
    fail "what is copied from suffers: $(cat "$work/out")"
rate=$(((after - before) * 8 / 5000))
most=$((${LIMIT:-8} * 1250 + 1700))
echo "copies: $rate kbit/s of ${OFFERED:-40} Mbit/s, limit ${LIMIT:-8}, with the burst of 1 MiB at most $most"
[ $rate -gt $((${LIMIT:-8} * 875)) ] && [ $rate -lt $most ] || fail "copies are $rate kbit/s"
# A target that is gone costs nothing: nothing is copied while its host does not answer, and what is copied from goes on.
copied() { "$selvage" trace --lab $lab acme/office/desk 'icmp to 10.0.1.12' | tee "$work/out" | grep -q 'copied to acme/security/far'; }
copied || fail "it was copied"
at h3 ip link set eth0 down
for _ in $(seq 100); do copied || break; sleep 0.1; done
copied && fail "it is copied to a host that is gone"
at acme/office/desk ping -c 3 -i 0.2 -w 5 10.0.1.12 >"$work/out" || fail "machines do not reach each other"
at h3 ip link set eth0 up
for _ in $(seq 300); do copied && break; sleep 0.1; done
copied || fail "it is not copied again"
echo passed
