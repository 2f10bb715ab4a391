#!/bin/bash
# Every example in a lab of its own, checked by its own expectations and by clients that are not ours; as this user and,
# where this is root, once more as an unprivileged one.
#   run.sh BINARY [beside | alone]    only those that may run beside others that want the machine, or only those that load it themselves
set -u
binary=$1 part=${2:-all}
here=$(cd "$(dirname "$0")/../.." && pwd)
passed=0 failed=0
work=$(mktemp -d); chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
# A place that an unprivileged user can read, wherever the repository is.
cp "$binary" "$work/selvage"; cp -r "$here/cluster-examples" "$here/Tests/Lab/clients.sh" "$work/"; chmod -R a+rX "$work"

run() {     # run NAME COMMAND...
    local name=$1 began=$SECONDS; shift
    if "$@" >"$work/out" 2>&1; then
        passed=$((passed + 1)); echo "ok      $name ($((SECONDS - began)) s)"
    else
        failed=$((failed + 1)); echo "FAILED  $name ($((SECONDS - began)) s)"; sed 's/^/        /' "$work/out" | tail -n 40
    fi
}

if [ "$part" != alone ]; then
    for user in self nobody; do
        as=
        if [ $user = nobody ]; then
            [ "$(id -u)" = 0 ] || continue
            as="setpriv --reuid=nobody --regid=nogroup --clear-groups --no-new-privs env -u XDG_RUNTIME_DIR HOME=/nonexistent"
        fi
        for example in "$work"/cluster-examples/*.yaml; do
            name=$(basename "$example" .yaml)
            # shellcheck disable=SC2086
            run "$name: all expectations, as $user" $as "$work/selvage" lab up "$example" --lab "test-$name"
            # shellcheck disable=SC2086
            [ -n "$as" ] || run "$name: real clients" bash "$work/clients.sh" "$work/selvage" "$name" "test-$name"
            # shellcheck disable=SC2086
            run "$name: down leaves nothing, as $user" $as bash -c \
                "'$work/selvage' lab down --lab test-$name && ! pgrep -f 'lab [s]upervise.*test-$name ' && ! ls -d /run/selvage-labs/test-$name /tmp/selvage-labs-*/test-$name 2>/dev/null | grep -q ."
        done
    done
    run "changes to a running lab" bash "$here/Tests/Lab/apply.sh" "$work/selvage"
    run "hosts that die and come back" bash "$here/Tests/Lab/failing.sh" "$work/selvage" "$work/cluster-examples"
    run "a machine that moves to another host" bash "$here/Tests/Lab/migrate.sh" "$work/selvage"
    run "machines that ask for addresses" bash "$here/Tests/Lab/dhcp.sh" "$work/selvage"
    run "machines that make themselves addresses" bash "$here/Tests/Lab/slaac.sh" "$work/selvage"
    run "machines that ask for IPv6 addresses" bash "$here/Tests/Lab/dhcp6.sh" "$work/selvage"
    run "names of machines and of the world" bash "$here/Tests/Lab/names.sh" "$work/selvage"
    run "groups that machines join" bash "$here/Tests/Lab/multicast.sh" "$work/selvage"
    run "firewalls in line" bash "$here/Tests/Lab/services.sh" "$work/selvage"
    run "copies for analyzers" bash "$here/Tests/Lab/mirrors.sh" "$work/selvage"
    run "records of flows" bash "$here/Tests/Lab/records.sh" "$work/selvage"
    run "a storm of questions for addresses" bash "$here/Tests/Lab/storm.sh" "$work/selvage"
    run "an address that two machines stand for" bash "$here/Tests/Lab/failover.sh" "$work/selvage"
    run "members that are checked, and die" bash "$here/Tests/Lab/health.sh" "$work/selvage"
    run "answers that come back by another host" bash "$here/Tests/Lab/asymmetric.sh" "$work/selvage"
    run "tunnels that die and work again" bash "$here/Tests/Lab/tunnels.sh" "$work/selvage"
    run "hosts on two underlays, each of which may fail" bash "$here/Tests/Lab/underlay.sh" "$work/selvage"
    run "hosts in a routed network, each part of which may fail" bash "$here/Tests/Lab/fabric.sh" "$work/selvage"
    run "a tunnel whose other end is BIRD" bash "$here/Tests/Lab/bfd.sh" "$work/selvage"
    run "a machine that goes elsewhere by itself" bash "$here/Tests/Lab/wander.sh" "$work/selvage"
    run "hosts in two parts that meet again" bash "$here/Tests/Lab/partition.sh" "$work/selvage"
    run "networks outside that two hosts reach" bash "$here/Tests/Lab/segments.sh" "$work/selvage"
    run "VXLAN end points of others" bash "$here/Tests/Lab/vteps.sh" "$work/selvage"
    run "networks that go on elsewhere by EVPN" bash "$here/Tests/Lab/evpn.sh" "$work/selvage"
    run "uplinks to two providers, each of which may fail" bash "$here/Tests/Lab/gateways.sh" "$work/selvage"
    run "uplinks of hosts with machines of their own, both families" bash "$here/Tests/Lab/near.sh" "$work/selvage"
    run "sessions that go wrong, and 10,000 routes" bash "$here/Tests/Lab/sessions.sh" "$work/selvage"
    run "uplinks to two providers, by FRRouting" env DAEMON=frr bash "$here/Tests/Lab/gateways.sh" "$work/selvage"
    run "sessions that go wrong, and 10,000 routes, by FRRouting" env DAEMON=frr bash "$here/Tests/Lab/sessions.sh" "$work/selvage"
fi
if [ "$part" != beside ]; then
    run "floods of one tenant, and a group of thousands that changes" bash "$here/Tests/Lab/flood.sh" "$work/selvage"
    run "what machines are promised on the way to other hosts" bash "$here/Tests/Lab/promises.sh" "$work/selvage"
    run "limits of what machines send and get" bash "$here/Tests/Lab/qos.sh" "$work/selvage"
    run "a virtual address under load" bash "$here/Tests/Lab/balance.sh" "$work/selvage"
    run "nodes that die with 100,000 connections, and one after another" bash "$here/Tests/Lab/restarts.sh" "$work/selvage"
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
