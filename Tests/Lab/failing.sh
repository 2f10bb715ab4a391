#!/bin/bash
# A lab whose hosts die, are cut off and come back, again and again; and one that becomes another drawing.   failing.sh BINARY EXAMPLES
set -u
selvage=$1 examples=$2
lab=test-failing
work=$(mktemp -d)
trap '"$selvage" lab down --lab $lab >/dev/null 2>&1; rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; cat "$work/out"; exit 1; }
try() { timeout 30 "$selvage" lab "$@" --lab $lab >"$work/out" 2>&1; }

timeout 60 "$selvage" lab up "$examples/two-tenants.yaml" --lab $lab >"$work/out" 2>&1 || fail "the lab does not start"
for round in 1 2 3; do
    for host in h1 h2 h3; do
        try kill $host || fail "round $round: $host can't be killed"
        try kill $host && fail "round $round: $host was killed twice"
        try start $host || fail "round $round: $host does not start"
    done
done
try check || fail "after all that not everything is as expected"
try partition h1 h2,h3 || fail "it can't be cut"
try heal || fail "it can't be healed"
try check || fail "healed, not everything is as expected"

# What the cluster refuses has not moved a machine.
sed 's|10.0.1.0/24|10.0.1.0/33|' "$examples/hello.yaml" >"$work/bad.yaml"
try apply "$work/bad.yaml" && fail "a wrong manifest was taken"
try status --json; grep -q '"name" : "h3"' "$work/out" || fail "a refused manifest took a host away"
# The whole lab becomes the other drawing: hosts, machines and tenants that it does not have go.
try apply "$examples/hello.yaml" || fail "another drawing was refused"
try check || fail "the other drawing is not in force"
timeout 10 "$selvage" topology --lab $lab >"$work/out" 2>&1
grep -q globex "$work/out" && fail "a tenant of the old drawing is left"
try apply "$examples/two-tenants.yaml" || fail "the first drawing was refused"
try check || fail "the first drawing is not in force again"
echo "hosts died and came back, drawings came and went"
