#!/bin/bash
# Changes to a running lab: what is wrong changes nothing, what is right takes effect live.   apply.sh BINARY
set -u
shopt -s lastpipe   # so that a failure behind a pipe ends the script
selvage=$1
lab=test-apply
work=$(mktemp -d)
trap '"$selvage" lab down --lab $lab; rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; cat "$work/out"; exit 1; }
cat >"$work/good.yaml" <<'Y'
tunnel: gre
tenants:
  t:
    bridges: { web: { subnet: 10.0.1.0/24, ports: [a, b] }, db: { subnet: 10.0.2.0/24, ports: [c] } }
    routers: { gw: { links: [{ bridge: web }, { bridge: db }] } }
lab:
  hosts: [h1, h2]
  machines:
    t/web/a: { host: h1, address: 10.0.1.11/24 }
    t/web/b: { host: h2, address: 10.0.1.12/24 }
    t/db/c: { host: h2, address: 10.0.2.21/24 }
  expect: [t/web/a reaches t/web/b, t/web/a reaches t/db/c]
Y
"$selvage" lab up "$work/good.yaml" --lab $lab >"$work/out" 2>&1 || fail "the lab does not start"
revision() { "$selvage" lab status --lab $lab --json | grep -o '"revision" : [0-9]*' | sort -u; }
before=$(revision)

# One ping runs through everything that follows; it must not lose a packet.
"$selvage" lab exec --lab $lab t/web/a -- ping -i 0.1 -W 1 10.0.1.12 >"$work/ping" 2>&1 &

refused() {   # refused NAME TEXT: the manifest on standard input must be refused with the text
    cat >"$work/bad.yaml"
    if "$selvage" lab apply "$work/bad.yaml" --lab $lab >"$work/out" 2>&1; then fail "$1 was taken"; fi
    grep -q -- "$2" "$work/out" || fail "$1: no word of \"$2\""
    [ "$(revision)" = "$before" ] || fail "$1 changed the network"
}
sed 's/bridge: db/bridge: dbb/' "$work/good.yaml" | refused "an unknown reference" "did you mean t/db?"
sed 's/ports: \[a, b\]/ports: [a, b, a]/' "$work/good.yaml" | refused "a duplicate name" "is there twice"
sed 's|bridge: db }|bridge: db, address: 10.0.1.129/25 }|' "$work/good.yaml" | refused "overlapping networks" "overlaps"
sed 's|10.0.2.0/24|10.0.2.0/240|' "$work/good.yaml" | refused "a wrong prefix" "prefix length over 32"
refused "an empty file" "the file is empty" </dev/null
head -c 31457280 /dev/urandom | tr -dc '[:print:]\n' | head -c 10485760 | refused "noise" "more than"
head -c 100000 /dev/urandom | refused "bytes that are no text" "not text"

# A ring of routers whose routes send packets round: taken, and each packet ends by its TTL or by the loop guard.
python3 - "$work/good.yaml" >"$work/ring.yaml" <<'P'
import sys
text = open(sys.argv[1]).read()
print(text.replace("routers: { gw: { links: [{ bridge: web }, { bridge: db }] } }", """routers:
      gw: { links: [{ bridge: web }, { bridge: db }, { router: x, address: 10.9.0.1/30, peer: 10.9.0.2/30 }], routes: [{ to: 10.8.0.0/16, via: 10.9.0.2 }] }
      x: { links: [{ router: y, address: 10.9.0.5/30, peer: 10.9.0.6/30 }], routes: [{ to: 10.8.0.0/16, via: 10.9.0.6 }] }
      y: { links: [{ router: gw, address: 10.9.0.9/30, peer: 10.9.0.10/30 }], routes: [{ to: 10.8.0.0/16, via: 10.9.0.10 }] }"""))
P
"$selvage" lab apply "$work/ring.yaml" --lab $lab >"$work/out" 2>&1 || fail "a ring of routers was refused"
"$selvage" lab exec --lab $lab t/web/a -- ping -c 2 -i 0.2 -W 1 10.8.0.1 >"$work/out" 2>&1
grep -q 'Time to live exceeded' "$work/out" || fail "the ring does not end by TTL"
"$selvage" lab exec --lab $lab t/web/a -- ping -c 1 -W 1 -t 255 10.8.0.1 >"$work/out" 2>&1
"$selvage" lab check --lab $lab >"$work/out" 2>&1 || fail "the ring broke the rest"

# A machine more, live.
sed -e 's/ports: \[c\]/ports: [c, d]/' -e 's|t/db/c: { host: h2.*|&\n    t/db/d: { host: h1, address: 10.0.2.22/24 }|' \
    -e 's|t/web/a reaches t/db/c|&, t/web/b reaches t/db/d|' "$work/good.yaml" >"$work/more.yaml"
"$selvage" lab apply "$work/more.yaml" --lab $lab >"$work/out" 2>&1 || fail "a machine more was refused"
"$selvage" lab check --lab $lab >"$work/out" 2>&1 || fail "the new machine is not reached"
# A port disabled: what depended on it stops, the rest goes on.
sed -e 's/ports: \[c, d\]/ports: { c: { enabled: false }, d: {} }/' -e 's/t\/web\/a reaches t\/db\/c/t\/web\/a cannot reach t\/db\/c/' "$work/more.yaml" >"$work/off.yaml"
"$selvage" lab apply "$work/off.yaml" --lab $lab >"$work/out" 2>&1 || fail "disabling a port was refused"
"$selvage" lab check --lab $lab >"$work/out" 2>&1 || fail "a disabled port still carries"

pkill -INT -f 'ping -i 0.1 -W 1 10.0.1.12'
for _ in $(seq 50); do grep -q 'packet loss' "$work/ping" && break; read -rt 0.05 <> <(:) || true; done
grep 'packet loss' "$work/ping"
grep -q ' 0% packet loss' "$work/ping" || { cp "$work/ping" "$work/out"; fail "the running ping lost packets"; }
echo "all changes took effect, and the running ping lost nothing"
