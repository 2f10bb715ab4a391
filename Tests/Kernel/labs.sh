#!/bin/bash
# Every example as a lab whose nodes work with the kernel's datapath: all that it expects.
set -u
cd "$(dirname "$0")/../.." || exit 1
failed=0
for example in cluster-examples/*.yaml; do
    name=$(basename "$example" .yaml)
    if timeout 60 "$SELVAGE" lab up "$example" --lab "$name" >"$TMPDIR/out" 2>&1 && grep -q ' kernel datapath' "$TMPDIR/out"; then
        echo "ok      $name: $(grep 'as expected\.' "$TMPDIR/out")"
    else
        failed=1; echo "FAILED  $name"; sed 's/^/        /' "$TMPDIR/out" | tail -n 40
    fi
    "$SELVAGE" lab down --lab "$name"
done
exit $failed
