# shellcheck shell=bash
# Helpers of the kernel lane: namespaces, nodes and checks. Sourced by the tests beside it.

export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C
SELVAGE=${SELVAGE:?the selvage binary}
WORK=$(mktemp -d)
PASSED=0 FAILED=0
declare -A NODE

# pass NAME | fail NAME: count a result.
pass() { PASSED=$((PASSED + 1)); echo "ok      $*"; }
fail() { FAILED=$((FAILED + 1)); echo "FAILED  $*"; }

# check NAME COMMAND...: the command must succeed.
check() {
    local name=$1; shift
    if "$@" >"$WORK/out" 2>&1; then pass "$name"; else fail "$name"; sed 's/^/        /' "$WORK/out" | tail -n 15; fi
}

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt "$end" ] || return 1
        read -rt 0.05 <> <(:) || true
    done
}

# hypervisor NAME ADDRESS: a namespace with an end of the underlay in it.
hypervisor() { ip netns add "$1"; ip -n "$1" link set lo up; }

# cable HOST1 HOST2: joins two hypervisors.
cable() {
    ip link add eth0 netns "$1" type veth peer name eth0 netns "$2"
    ip -n "$1" addr add 192.0.2.1/24 dev eth0; ip -n "$1" link set eth0 up
    ip -n "$2" addr add 192.0.2.2/24 dev eth0; ip -n "$2" link set eth0 up
}

# machine NAME HOST INTERFACE MAC MTU ADDRESS...: a namespace whose eth0 is the host's interface.
machine() {
    local name=$1 host=$2 interface=$3 mac=$4 mtu=$5; shift 5
    ip netns add "$name"
    ip link add "$interface" netns "$host" type veth peer name eth0 netns "$name"
    ip netns exec "$name" sysctl -qw net.ipv6.conf.eth0.accept_dad=0 || true
    ip -n "$name" link set eth0 address "$mac" mtu "$mtu"
    ip -n "$host" link set "$interface" mtu "$mtu" up
    ip -n "$name" link set lo up; ip -n "$name" link set eth0 up
    local a; for a; do ip -n "$name" addr add "$a" dev eth0 nodad 2>/dev/null || ip -n "$name" addr add "$a" dev eth0; done
}

# node HOST [OPTION...]: starts a host's node and waits until it answers.
node() {
    local host=$1; shift
    ip netns exec "$host" "$SELVAGE" node --data "$WORK/$host" --socket "$WORK/$host.sock" "$@" >>"$WORK/$host.log" 2>&1 &
    NODE[$host]=$!
    wait_for 20 "$SELVAGE" topology --socket "$WORK/$host.sock" || { cat "$WORK/$host.log"; echo "node $host did not start"; exit 1; }
}

# cluster MANIFEST [OPTION...]: h1 founds a cluster, h2 joins it, and both put the manifest in force.
cluster() {
    local manifest=$1; shift
    "$SELVAGE" cluster init --name h1 --address 192.0.2.1 --data "$WORK/h1" >>"$WORK/h1.log" || exit 1
    node h1 "$@"
    local token; token=$("$SELVAGE" cluster token --socket "$WORK/h1.sock") || exit 1
    ip netns exec h2 "$SELVAGE" cluster join "$token" --name h2 --address 192.0.2.2 --data "$WORK/h2" >>"$WORK/h2.log" || exit 1
    node h2 "$@"
    "$SELVAGE" apply "$manifest" --wait --socket "$WORK/h1.sock" || { tail "$WORK"/h?.log; exit 1; }
    # A node that joined this moment may not be heard yet, and is not waited for.
    wait_for 20 same_topology || { echo "h2 does not follow"; tail "$WORK"/h?.log; exit 1; }
    "$SELVAGE" apply "$manifest" --wait --socket "$WORK/h1.sock" >/dev/null
}
same_topology() {
    [ "$("$SELVAGE" topology --socket "$WORK/h1.sock")" = "$("$SELVAGE" topology --socket "$WORK/h2.sock")" ]
}

# need TOOL...: a tool that is not there must not look like a quiet network.
need() {
    local tool
    for tool; do command -v "$tool" >/dev/null || { echo "$tool is missing: .ci/setup test installs it"; exit 1; }; done
}
need ip ping arping tracepath traceroute iperf3 ovs-dpctl

# upcalls HOST: packets that its datapath found no flow for, so far.
upcalls() { "$SELVAGE" datapath --socket "$WORK/$1.sock" --json | sed -n '/"flow misses"/{n;s/[^0-9]*\([0-9]*\).*/\1/p}'; }

# flows HOST: flows in its datapath, as their own tool counts them.
flows() { ip netns exec "$1" ovs-dpctl dump-flows selvage | grep -c actions; }

finish() {
    for pid in "${NODE[@]}"; do kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; done
    rm -rf "$WORK"
    echo "$PASSED passed, $FAILED failed"
    [ "$FAILED" = 0 ]
}
