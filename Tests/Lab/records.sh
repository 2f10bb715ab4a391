#!/bin/bash
# Records of flows for a collector: tshark reads what hosts tell by IPFIX, with the names of ports and the tenant; what is told of
# is what was sent, all of it or one packet of so many; what a filter drops is told of as dropped.
#   records.sh BINARY
lab=test-records; . "$(dirname "$0")/lib.sh"
cat >"$work/net.yaml" <<'YAML'
tunnel: vxlan
tenants:
  acme:
    chains: { quiet: [{ id: no, protocol: udp, destinationPort: 9, action: drop }] }
    bridges:
      office: { subnet: 10.0.1.0/24, ports: { desk: { inbound: quiet }, phone: {} } }
      servers: { subnet: 10.0.2.0/24, ports: [web] }
    routers:
      gw: { links: [{ bridge: office }, { bridge: servers }] }
    mirrors:
      flows: { from: [office/desk, office/phone], to: ipfix 192.0.2.3 port 4739, sample: 1, idle: 2, active: 60 }
lab:
  hosts: [h1, h2, h3]
  machines:
    acme/office/desk: { host: h1, address: [10.0.1.11/24, "fd00:1::11/64"] }
    acme/office/phone: { host: h1, address: [10.0.1.12/24, "fd00:1::12/64"] }
    acme/servers/web: { host: h2, address: 10.0.2.21/24 }
YAML
up
h3=$(at h3 ip -4 -br addr show dev eth0 | awk '{ split($3, a, "/"); print a[1] }')
[ "$h3" = 192.0.2.3 ] || fail "the collector has address $h3"
at h3 timeout 900 tcpdump -U --immediate-mode -i eth0 -w "$work/pcap" udp port 4739 2>"$work/pcap.err" &
says "$work/pcap.err" 'listening on' || fail "tcpdump: $(cat "$work/pcap.err")"
# What the collector was told so far: source, destination, protocol, port, packets, bytes, what became of it, tenant, ports; one
# line a record.
told() {
    at h3 tshark -l -n -r "$work/pcap" -T json 2>/dev/null >"$work/json"
    /usr/bin/python3 - "$work/json" <<'PYTHON'
import json, sys

def together(items):  # A field that is there twice is a list.
    found = {}
    for name, value in items:
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}

def flows(node):
    if isinstance(node, list):
        for value in node: yield from flows(value)
    elif isinstance(node, dict):
        for name, value in node.items():
            if name.startswith("Flow ") and isinstance(value, dict): yield value
            else: yield from flows(value)

text = open(sys.argv[1]).read()
for flow in flows(json.loads(text, object_pairs_hook=together) if text.strip() else []):
    if "cflow.packets" not in flow:
        print("sampling", flow["cflow.observation_domain_name"], "one of", flow["cflow.sampling_interval"])
        continue
    names = flow.get("cflow.if_name", [])
    became = {"1": "forwarded", "2": "dropped", "3": "consumed"}[flow["Forwarding Status"]["cflow.forwarding_status"]]
    print(flow.get("cflow.srcaddr") or flow.get("cflow.srcaddrv6") or flow["cflow.srcmac"],
          flow.get("cflow.dstaddr") or flow.get("cflow.dstaddrv6") or flow["cflow.dstmac"],
          "proto", flow.get("cflow.protocol", "-"), "port", flow.get("cflow.dstport", "-"),
          "packets", flow["cflow.packets"], "bytes", flow["cflow.octets"], became, flow["cflow.vrfname"],
          " ".join(names if isinstance(names, list) else [names]))
PYTHON
}
# tells PATTERN: waits until the collector was told of it.
tells() {
    for _ in $(seq 100); do told >"$work/told"; grep -qE "$1" "$work/told" && return 0; sleep 0.3; done
    fail "nobody told of $1: $(cat "$work/told")"
}
at acme/office/desk ping -c 5 -i 0.2 -w 5 10.0.1.12 >"$work/out" || fail "machines do not reach each other"
at acme/office/desk ping -6 -c 3 -i 0.2 -w 5 fd00:1::12 >"$work/out" || fail "machines do not reach each other by IPv6"
at acme/office/desk ping -c 4 -i 0.2 -s 100 -w 5 10.0.2.21 >"$work/out" || fail "the other network is not reached"
for _ in 1 2 3; do at acme/office/desk bash -c 'echo lost >/dev/udp/10.0.1.12/9'; done
tells '^sampling acme/flows one of 1$'
tells '^10.0.1.11 10.0.1.12 proto 1 port 0 packets 5 bytes 420 forwarded acme acme/office/desk acme/office/phone$'
tells '^10.0.1.12 10.0.1.11 proto 1 port 0 packets 5 bytes 420 forwarded acme acme/office/phone acme/office/desk$'
tells '^fd00:1::11 fd00:1::12 proto 58 port 0 packets 3 bytes 312 forwarded acme acme/office/desk acme/office/phone$'
tells '^10.0.1.11 10.0.2.21 proto 1 port 0 packets 4 bytes 512 forwarded acme acme/office/desk acme/servers/web$'
tells '^10.0.2.21 10.0.1.11 proto 1 port 0 packets 4 bytes 512 forwarded acme acme/servers/web acme/office/desk$'
tells '^10.0.1.11 10.0.1.12 proto 17 port 9 packets 1 bytes 33 dropped acme acme/office/desk'
"$selvage" trace --lab $lab acme/office/desk 'icmp to 10.0.1.12' | tee "$work/out" | grep 'recorded for ipfix 192.0.2.3 port 4739 by mirror acme/flows' || fail "trace does not tell"
# All packets of a stream, and then one of so many.
stream() { # COUNT: packets of a stream that the collector was told of
    at acme/office/phone iperf3 -s -1 --forceflush >"$work/server" 2>&1 &
    says "$work/server" 'listening' || fail iperf3
    at acme/office/desk iperf3 -u -b 8M -l 200 -k "$1" -c 10.0.1.12 --forceflush >"$work/out" 2>&1 || fail iperf3
    # All that there is was told of when no more comes for longer than a stream is idle.
    sum=0
    for _ in $(seq 60); do
        told >"$work/told"
        sum=$(awk '$1 == "10.0.1.11" && $2 == "10.0.1.12" && $4 == 17 && $6 == 5201 { n += $8 } END { print n + 0 }' "$work/told")
        [ "$sum" = "${before:-}" ] && [ "$sum" -gt "$known" ] && break
        before=$sum; sleep 3
    done
    streamed=$((sum - known)) known=$sum
}
known=0
stream 3000
# What iperf3 says hello with is no part of the stream. A queue that overflows loses some: only where the machine is slow.
echo "of 3000 packets told of: $streamed"
[ "$streamed" -ge "${LEAST:-3000}" ] && [ "$streamed" -le 3010 ] || fail "of 3000 packets $streamed were told of"
"$selvage" export --lab $lab | sed 's/sample: \["1"\]/sample: ["20"]/' >"$work/new.yaml"
grep -q 'sample: \["20"\]' "$work/new.yaml" || fail "the manifest was not changed as meant"
quietly "$selvage" apply "$work/new.yaml" --wait --lab $lab || fail "apply"
stream 6000
# Five standard deviations.
echo "of 6000 packets, one of 20, told of: $streamed"
[ "$streamed" -gt 215 ] && [ "$streamed" -lt 385 ] || fail "of 6000 packets $streamed were told of"
"$selvage" export --lab $lab | sed 's/ipfix 192.0.2.3 port 4739/ipfix 203.0.113.9 port 4739/' >"$work/new.yaml"
quietly "$selvage" apply "$work/new.yaml" --wait --lab $lab || fail "apply"
at acme/office/desk ping -c 2 -i 0.2 -w 5 10.0.1.12 >"$work/out" || fail "what is told of suffers from a collector that is not there"
echo passed
