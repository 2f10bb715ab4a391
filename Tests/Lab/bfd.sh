#!/bin/bash
# The other end of a tunnel's liveness is not ours: BIRD on a VXLAN device of the kernel speaks BFD with a node.
#   bfd.sh BINARY
lab=test-bfd; . "$(dirname "$0")/lib.sh"
command -v bird >/dev/null || fail "bird is missing: .ci/setup test installs it"
cat >"$work/net.yaml" <<'YAML'
tunnel: vxlan
tenants: { acme: { bridges: { web: { subnet: 10.0.1.0/24, ports: [one, two] } } } }
lab:
  hosts: [h1, h2]
  machines:
    acme/web/one: { host: h1, address: 10.0.1.11/24 }
    acme/web/two: { host: h2, address: 10.0.1.12/24 }
YAML
cat >"$work/bird.conf" <<'CONF'
router id 192.0.2.2;
protocol device {}
protocol bfd {
    interface "sel1" { min rx interval 50 ms; min tx interval 50 ms; multiplier 3; };
    neighbor 169.254.1.1 dev "sel1";
}
CONF
# state: how h1 sees its tunnel to h2.
state() { "$selvage" tunnels --lab $lab --host h1 --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["h1"][0]["state"])'; }
becomes() { local _; for _ in $(seq 100); do [ "$(state)" = "$1" ] && return 0; sleep 0.1; done; quietly "$selvage" tunnels --lab $lab; cat "$work/bird" >>"$work/out" 2>/dev/null; fail "the tunnel is not $1"; }
up
becomes up
quietly "$selvage" lab kill h2 --lab $lab || fail "lab kill"
becomes down
quietly at h2 sh -e -c 'ip link add sel1 address 00:00:5e:00:52:02 type vxlan id 1 local 192.0.2.2 remote 192.0.2.1 dstport 4789 nolearning
    ip addr add 169.254.1.0/31 dev sel1; ip link set sel1 up; ip neigh add 169.254.1.1 lladdr 02:00:00:00:00:01 dev sel1' || fail "the VXLAN device"
at h2 bird -f -c "$work/bird.conf" -s "$work/bird.ctl" >"$work/bird" 2>&1 &
becomes up
for _ in $(seq 50); do quietly at h2 birdc -s "$work/bird.ctl" show bfd sessions; grep -q '169.254.1.1 .* Up ' "$work/out" && break; done
grep -q '169.254.1.1 .* Up ' "$work/out" || fail "BIRD has no session"
# What is seen on the way is BFD to programs that know it.
at h1 timeout 20 tcpdump -Z root -nvc 4 -i eth0 udp port 4789 >"$work/dump" 2>/dev/null
cp "$work/dump" "$work/out"
[ "$(grep -A 1 '169.254.1.1.* > 169.254.1.0.3784: BFDv1' "$work/dump" | grep -c 'Control, State Up')" -gt 0 ] || fail "tcpdump sees no BFD"
began=$(now); at h2 pkill -KILL -x bird
for _ in $(seq 100); do [ "$(state)" = down ] && break; done
took=$(($(now) - began))
# With the time that it takes to end it and to ask.
[ "$(state)" = down ] && [ $took -lt 1500 ] || fail "the end of BIRD was noticed after $took ms"
echo "BIRD and a node agreed that a tunnel works; the end of BIRD was known after at most $took ms"
