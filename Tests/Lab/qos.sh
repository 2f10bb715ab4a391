#!/bin/bash
# Limits of what machines send and get, measured by iperf3: on one host and across, by UDP and TCP, changed while they are used;
# and the mark of what one sends, at the other end and on the way.
#   qos.sh BINARY; in the environment Mbit/s: EGRESS and INGRESS of the machine that is measured by UDP, OFFERED that it tries, FREE
#   that machines without limits send, CHANGED that its limit becomes
lab=test-qos; . "$(dirname "$0")/lib.sh"
egress=${EGRESS:-20} ingress=${INGRESS:-8} free=${FREE:-60} changed=${CHANGED:-50}
cat >"$work/net.yaml" <<YAML
tunnel: vxlan
tenants:
  acme:
    bridges:
      office:
        ports:
          # A small burst shows the rate sooner, and TCP needs the usual one.
          slow: { qos: { egress: ${egress}M, egressBurst: 128k, ingress: ${ingress}M, ingressBurst: 128k, dscp: 46 } }
          bulk: { qos: { egress: 20M, ingress: 8M } }
          near: {}
          far: {}
lab:
  hosts: [h1, h2]
  machines:
    acme/office/slow: { host: h1, address: 10.0.1.11/24 }
    acme/office/bulk: { host: h1, address: 10.0.1.14/24 }
    acme/office/near: { host: h1, address: 10.0.1.12/24 }
    acme/office/far: { host: h2, address: 10.0.1.13/24 }
YAML
up
slow=acme/office/slow bulk=acme/office/bulk near=acme/office/near far=acme/office/far
for who in $slow $bulk $near $far; do
    at $who iperf3 -s --forceflush >"$work/server.${who##*/}" 2>&1 &
    says "$work/server.${who##*/}" 'listening' || fail "iperf3 does not start"
done
# rate MACHINE ADDRESS OPTIONS...: bits a second that arrive, without the first seconds: a burst passes then.
rate() {
    local machine=$1 address=$2; shift 2
    at "$machine" iperf3 -c "$address" -J -t "${seconds:-6}" -O "$(( ${seconds:-6} / 3 ))" "$@" >"$work/out" 2>&1 || fail "iperf3 from $machine to $address"
    /usr/bin/python3 - "$work/out" <<'PY'
import json, sys
end = json.load(open(sys.argv[1]))["end"]
if "sum_received" in end: print(int(end["sum_received"]["bits_per_second"]))
else: print(int(end["sum"]["bits_per_second"] * (1 - end["sum"]["lost_packets"] / max(1, end["sum"]["packets"]))))
PY
}
# holds WHAT FOUND ASKED HEADERS: what arrives is within 5 % of what was asked, less what headers take of it.
holds() {
    /usr/bin/python3 - "$@" <<'PY' || fail "$1: $2 of $3 bits a second"
import sys
found, asked, share = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
print(f"{sys.argv[1]}: {found / 1e6:.2f} Mbit/s of {asked / 1e6:.0f}, with headers {found / share / asked * 100:.1f} %")
sys.exit(0 if abs(found / share - asked) <= 0.05 * asked else 1)
PY
}
udp="-u -l 1200 -b ${OFFERED:-60}M"; share=$(/usr/bin/python3 -c 'print(1200 / 1242)')
for place in 10.0.1.12 10.0.1.13; do holds "sends by UDP to $place" "$(rate $slow $place $udp)" "${egress}000000" "$share"; done
holds "gets by UDP on its host" "$(rate $near 10.0.1.11 $udp)" "${ingress}000000" "$share"
holds "gets by UDP from another" "$(rate $far 10.0.1.11 $udp)" "${ingress}000000" "$share"
# TCP finds the rate by what is lost, and it takes a while until the burst is used up. Headers of packets that are cut to size later
# are counted once: between 4 % and nothing.
holds "sends by TCP" "$(seconds=16 rate $bulk 10.0.1.13)" 20000000 0.98
holds "gets by TCP" "$(seconds=16 rate $far 10.0.1.14)" 8000000 0.98
got=$(rate $near 10.0.1.13 -u -l 1200 -b "${free}M"); [ "$got" -gt $((free * 900000)) ] || fail "others are limited: $got"
# Others' traffic is nobody's limit, and a limit that changes holds at once.
"$selvage" export --lab $lab | sed '/ slow:/s/egress: \["'"$egress"'M"\]/egress: ["'"$changed"'M"]/; / slow:/s/ingress: \["'"$ingress"'M"\], ingressBurst: \["128k"\], //' >"$work/new.yaml"
quietly "$selvage" apply "$work/new.yaml" --wait --lab $lab || fail apply
holds "sends by UDP after a change" "$(rate $slow 10.0.1.13 $udp)" "${changed}000000" "$share"
got=$(rate $near 10.0.1.11 -u -l 1200 -b "${free}M"); [ "$got" -gt $((free * 900000)) ] || fail "it still gets $got only"

# The mark, where it arrives and between the hosts; what it gets is not marked.
at $far sh -c 'timeout 20 tcpdump -l -U --immediate-mode -n -v -c 3 -i eth0 "src 10.0.1.11 and udp port 9"' >"$work/marked" 2>&1 &
at h2 sh -c 'timeout 20 tcpdump -l -U --immediate-mode -n -v -c 20 -i any "udp port 4789 and ip[1] == 0xb8"' >"$work/outer" 2>&1 &
says "$work/marked" 'listening on' && says "$work/outer" 'listening on' || fail tcpdump
for _ in 1 2 3 4 5; do at $slow sh -c 'echo x >/dev/udp/10.0.1.13/9' 2>/dev/null || at $slow bash -c 'echo x >/dev/udp/10.0.1.13/9'; done
says "$work/marked" 'tos 0xb8' || { cp "$work/marked" "$work/out"; fail "it arrives without its mark"; }
says "$work/outer" 'tos 0xb8' || { cp "$work/outer" "$work/out"; fail "the tunnel is not marked"; }
"$selvage" trace --lab $lab $slow 'udp to 10.0.1.13:9' | grep 'qos .*DSCP 46' || fail "trace does not tell"
echo passed
