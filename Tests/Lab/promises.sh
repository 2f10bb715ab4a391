#!/bin/bash
# What a machine is promised on the way to other hosts it gets, measured by iperf3 while a neighbor sends twice what there is; what it
# does not use the neighbor gets.
#   promises.sh BINARY; in the environment Mbit/s: RATE of the host, PROMISED to the machine, both as iperf3 counts more or less
lab=test-promises; . "$(dirname "$0")/lib.sh"
rate=${RATE:-40} promised=${PROMISED:-16}
cat >"$work/net.yaml" <<YAML
tunnel: vxlan
hosts: { h1: { rate: ${rate}M } }
tenants:
  acme:
    bridges:
      office:
        ports:
          voice: { qos: { guarantee: ${promised}M, dscp: 46 } }
          bulk: {}
          calm: {}
          far: {}
lab:
  hosts: [h1, h2]
  machines:
    acme/office/voice: { host: h1, address: 10.0.1.11/24 }
    acme/office/bulk: { host: h1, address: 10.0.1.12/24 }
    acme/office/calm: { host: h1, address: 10.0.1.13/24 }
    acme/office/far: { host: h2, address: 10.0.1.14/24 }
YAML
up
voice=acme/office/voice bulk=acme/office/bulk far=acme/office/far
for port in 5201 5202; do
    at $far iperf3 -s -p $port --forceflush >"$work/server.$port" 2>&1 &
    says "$work/server.$port" 'listening' || fail "iperf3 does not start"
done
# udp MACHINE PORT RATE SECONDS FILE: sends by UDP, so many Mbit/s with headers of tunnels.
udp() { at "$1" iperf3 -c 10.0.1.14 -p "$2" -J -u -l 1200 -b "$(($3 * 1200 * 1000 / 1292))K" -t "$4" >"$5" 2>&1; }
# got FILE: Mbit/s that arrived, with headers of tunnels, and the part that was lost.
got() {
    /usr/bin/python3 - "$1" <<'PY'
import json, sys
# One that loses its last words in the queue says no sum.
end = json.load(open(sys.argv[1]))["end"].get("sum", {"bits_per_second": 0, "lost_packets": 1, "packets": 1})
lost = end["lost_packets"] / max(1, end["packets"])
print(f"{end['bits_per_second'] * (1 - lost) * 1292 / 1200 / 1e6:.2f} {lost:.3f}")
PY
}
# both: the machine sends nine tenths of what it is promised, the neighbor twice what there is. Sets lost, and how long the machine's
# pings take, ms, in the middle.
both() {
    udp $bulk 5202 $((2 * rate)) 8 "$work/bulk" & neighbor=$!
    # Until the queue is full, and the load is what it is.
    sleep 1
    at $voice ping -i 0.2 -c 20 10.0.1.14 >"$work/ping" 2>&1 & pings=$!
    udp $voice 5201 $((promised * 9 / 10)) 5 "$work/voice" || { cp "$work/voice" "$work/out"; fail "iperf3 of the machine"; }
    wait $pings
    median=$(sed -n 's/.*time=\([0-9.]*\) ms/\1/p' "$work/ping" | sort -n | awk '{ all[NR] = $1 } END { print NR ? all[int((NR + 1) / 2)] : 99999 }')
    wait $neighbor || { cp "$work/bulk" "$work/out"; fail "iperf3 of its neighbor"; }
    read -r of lost <<<"$(got "$work/voice")"; read -r neighbor _ <<<"$(got "$work/bulk")"
    echo "$1: of $((promised * 9 / 10)) Mbit/s $of arrive, $lost lost, pings take $median ms; its neighbor's $neighbor"
}
both "with a promise"
awk "BEGIN { exit !($lost < 0.02 && $median < 60) }" || fail "what was promised is not kept"
kept=$median
at $voice ping -c 1 -W 5 10.0.1.14 >/dev/null; "$selvage" flows --lab $lab >"$work/out" 2>&1
grep -q 'queue=2' "$work/out" || fail "flows do not tell their queue"
# What waits when it ends is sent after that, and counts: a thousand packets.
udp $bulk 5202 $((2 * rate)) 10 "$work/bulk"
read -r alone _ <<<"$(got "$work/bulk")"
echo "alone the neighbor's $alone Mbit/s of $rate"
awk "BEGIN { exit !($alone > 0.9 * $rate && $alone < 1.05 * $rate + 1) }" || fail "what is not used nobody gets, or more is sent than the host's rate"
at h1 tc -s class show dev eth0 | grep -q 'htb 5e1f:2' || { at h1 tc class show dev eth0 >"$work/out" 2>&1; fail "no queue"; }

# More than there is can't be promised, and one that is promised nothing has to share.
"$selvage" export --lab $lab >"$work/now.yaml" || fail export
sed 's/guarantee: \["'$promised'M"\]/guarantee: '$rate'M/' "$work/now.yaml" >"$work/more.yaml"
"$selvage" apply "$work/more.yaml" --lab $lab >"$work/out" 2>&1 && fail "more than there is was promised"
grep "promises ${rate}M" "$work/out" || fail "it does not say why"
sed 's/guarantee: \["'$promised'M"\], //; / calm: /s/ }$/, qos: { guarantee: 1M } }/' "$work/now.yaml" >"$work/less.yaml"
grep -q 'calm: .*guarantee: 1M' "$work/less.yaml" || { cp "$work/now.yaml" "$work/out"; fail "the export is written otherwise"; }
quietly "$selvage" apply "$work/less.yaml" --wait --lab $lab || fail apply
both "without one"
# It waits behind its neighbor.
awk "BEGIN { exit !($median > 20 && $median > 5 * $kept) }" || fail "it does not wait without a promise: nothing was measured"

# What hosts ask each other has a queue of its own, so that tunnels are not taken for dead while a neighbor sends twice what there is;
# a guest under User-Mode Linux stands still for longer than that at times.
at h1 tc -s class show dev eth0 >"$work/out" 2>&1
grep -A1 'htb 5e1f:fffe ' "$work/out" | grep -q 'Sent [1-9]' || fail "probes do not go first"
[ -n "${DATAPATH:-}" ] || ! grep -q 'does not answer through its tunnel' /run/selvage-labs/$lab/h1.log || fail "a tunnel was taken for dead"

# queues PATTERN: waits (10 s) until the interface's root is so.
queues() { local _; for _ in $(seq 100); do at h1 tc qdisc show dev eth0 2>/dev/null | grep -q "$1" && return 0; sleep 0.1; done; return 1; }
# Somebody else's queues are left alone, and told of; when they go, promises are kept again.
cp "$work/now.yaml" "$work/back.yaml"
quietly "$selvage" apply "$work/back.yaml" --wait --lab $lab || fail apply
at h1 tc qdisc replace dev eth0 root handle 7: htb || fail "tc"
sed 's/guarantee: \["'$promised'M"\]/guarantee: 1M/' "$work/back.yaml" >"$work/one.yaml"
quietly "$selvage" apply "$work/one.yaml" --wait --lab $lab
"$selvage" status --lab $lab >"$work/out" 2>&1; grep -q 'queues of somebody else' "$work/out" || fail "nobody tells of queues that are not ours"
queues 'htb 7: ' || fail "somebody else's queues went"
at h1 tc qdisc del dev eth0 root || fail "tc"
quietly "$selvage" apply "$work/back.yaml" --wait --lab $lab || fail apply
queues 'htb 5e1f:' || fail "promises are not kept again"
# What an earlier run left goes when nothing is promised any more.
quietly "$selvage" lab kill h1 --lab $lab || fail "lab kill"
sed 's/guarantee: \["*[0-9]*M"*\],//; s/guarantee: [0-9]*M, *//; s/qos: { guarantee: [^}]*}//' "$work/back.yaml" >"$work/none.yaml"
grep -q guarantee "$work/none.yaml" && fail "a promise is left"
quietly "$selvage" lab start h1 --lab $lab || fail "lab start"
quietly "$selvage" apply "$work/none.yaml" --wait --lab $lab || fail apply
queues 'noqueue' || { at h1 tc qdisc show dev eth0 >"$work/out" 2>&1; fail "an earlier run's queues stay"; }
echo passed
