# shellcheck shell=bash
# Helpers of the tests of labs. A test says  lab=test-NAME, sources this with the binary as $1, and writes $work/net.yaml.
set -u
selvage=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
# A node that ends by a fault of its own is a failure, whatever else was seen.
end() {
    local status=$?
    if grep -H -m 1 -e 'Fatal error' -e 'Signal [0-9]*: ' /run/selvage-labs/$lab/*.log 2>/dev/null; then echo "FAILED: a node crashed"; status=1; fi
    "$selvage" lab down --lab $lab >/dev/null 2>&1
    rm -rf "$work"
    exit $status
}
trap end EXIT

# fail WORDS: ends the test; the last output goes with it.
fail() { echo "FAILED: $*"; tail -n 20 "$work/out" 2>/dev/null; exit 1; }

# at PLACE COMMAND...: in a machine or on a host.
at() { local place=$1; shift; timeout 900 "$selvage" lab exec --lab "$lab" "$place" -- "$@"; }

# quietly COMMAND...: its output is kept for a failure.
quietly() { "$@" >"$work/out" 2>&1; }

# up: starts the lab of $work/net.yaml; all its hosts work with the datapath that DATAPATH in the environment names, if it does.
up() {
    quietly "$selvage" lab up "$work/net.yaml" --lab "$lab" || fail "lab up"
    [ -z "${DATAPATH:-}" ] || grep -q " $DATAPATH datapath" "$work/out" || fail "it is not the $DATAPATH datapath"
}

# says FILE PATTERN [TENTHS]: waits (30 s) until a line of the file has the pattern.
says() {
    local _
    for _ in $(seq "${3:-300}"); do grep -q -- "$2" "$1" 2>/dev/null && return 0; sleep 0.1; done
    return 1
}

# silence PLACE PATTERN INTERFACE...: a router is without power: it hears nothing there, and its daemons, by their command, say nothing.
# All at once: whoever connects to one that is stopped, and not yet silent, waits for its words rather than for BFD.
silence() {
    # In a file: a command with the pattern in it would be among those that it is for.
    cat >"$work/silence" <<SH
pkill -STOP -f '$2' || exit
for interface in ${*:3}; do
    tc qdisc add dev \$interface ingress && tc filter add dev \$interface parent ffff: protocol all u32 match u32 0 0 action drop ||
        nft "add table netdev off; add chain netdev off \$interface { type filter hook ingress device \$interface priority 0; policy drop; }" || exit
done
SH
    quietly at "$1" sh "$work/silence"
}
# heard PLACE PATTERN INTERFACE...: what silence did, undone.
heard() {
    cat >"$work/silence" <<SH
nft 'delete table netdev off' || for interface in ${*:3}; do tc qdisc del dev \$interface ingress || exit; done
pkill -CONT -f '$2'
SH
    quietly at "$1" sh "$work/silence"
}

now() { date +%s%3N; }

# process_at PLACE: a process there, by its number in the lab, that lives for a while; ip link's netns takes it.
process_at() {
    local file=$work/process.${1//\//.}
    at "$1" sh -c 'echo $$; exec sleep 1000' >"$file" 2>/dev/null &
    says "$file" . || { echo "nothing runs at $1" >&2; return 1; }
    cat "$file"
}

# second_cable MACHINE HOST ADDRESS GATEWAY [off]: a cable from the machine to tap1 on another host, as a hypervisor has a tap
# for it on both for a moment. Both cables are of one bridge with the machine's address and MAC; `off` leaves the second out.
second_cable() {
    local process; process=$(process_at "$2") || fail "no process at $2"
    quietly at "$1" sh -e -c '
        mac=$(ip -br link show eth0 | awk "{ print \$3 }") mtu=$(ip link show eth0 | sed -n "s/.* mtu \([0-9]*\).*/\1/p")
        ip link add br0 address $mac mtu $mtu type bridge; ip link add eth1 mtu $mtu type veth peer name tap1 netns '"$process"'
        ip addr flush dev eth0; ip link set eth0 master br0; ip link set br0 up
        ip addr add '"$3"' dev br0; ip route replace default via '"$4" || fail "the second cable"
    [ "${5:-}" = off ] || at "$1" sh -c 'ip link set eth1 master br0 && ip link set eth1 up' || fail "the second cable"
    at "$2" ip link set tap1 up || fail "the second cable"
}

# longest FILE COUNT: the longest run of pings that were not answered, of COUNT that were sent.
longest() {
    awk -v sent="$2" '/bytes from/ && match($0, /icmp_seq=[0-9]+/) { n = substr($0, RSTART + 9, RLENGTH - 9) + 0; if (n - p > m) m = n - p; if (n > p) p = n }
        END { if (sent + 1 - p > m) m = sent + 1 - p; print m - 1 }' "$1"
}

# lossy HOST ONE_IN PROTOCOL [PORT]: the host drops one in so many of what comes to it by its underlay; 1 drops all.
# sound HOST: no more. lost HOST: how many it dropped.
# By nftables where the kernel has it for IPv4, by tc elsewhere.
filter() {
    [ -n "${FILTER:-}" ] || { if quietly at "$1" nft "add table ip probe; delete table ip probe"; then FILTER=nft; else FILTER=tc; fi; }
    [ $FILTER = nft ]
}
lossy() {
    local match="ip protocol $3" number=47 share="" action="drop"
    [ "$3" = udp ] && number=17
    if filter "$1"; then
        [ -n "${4:-}" ] && match="$3 dport $4"
        [ "$2" -gt 1 ] && share="numgen random mod $2 < 1"
        quietly at "$1" nft "add table ip loss; add chain ip loss in { type filter hook input priority 0; }; \
            add rule ip loss in iifname eth0 $match $share counter drop"
    else
        match="match ip protocol $number 0xff"
        [ -n "${4:-}" ] && match="$match match ip dport $4 0xffff"
        [ "$2" -gt 1 ] && action="pass random netrand drop $2"
        # shellcheck disable=SC2086
        quietly at "$1" sh -c "tc qdisc add dev eth0 ingress && tc filter add dev eth0 parent ffff: protocol ip u32 $match action $action"
    fi || fail "$1 can't drop packets"
}
sound() { if filter "$1"; then at "$1" nft delete table ip loss; else at "$1" tc qdisc del dev eth0 ingress; fi; }
lost() {
    if filter "$1"; then at "$1" nft list table ip loss; else at "$1" tc -s filter show dev eth0 parent ffff:; fi |
        sed -n -e 's/.*counter packets \([0-9]*\).*/\1/p' -e 's/.*(dropped \([0-9]*\),.*/\1/p' | tail -n 1
}
