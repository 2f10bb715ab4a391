#!/bin/bash
# Multicast with real listeners: groups reach those who joined them and nobody else, on one host and across, IPv4 and IPv6,
# for one source, as IGMPv2 and MLDv1 say it too; who leaves is left out within seconds, and a multicast router gets all.
#   multicast.sh BINARY
lab=test-multicast; . "$(dirname "$0")/lib.sh"
cat >"$work/net.yaml" <<'YAML'
tunnel: vxlan
tenants:
  acme:
    bridges:
      floor: { subnet: [10.0.1.0/24, "fd00:1::/64"], multicast: true, ports: [sender, near, other, far, deaf, old] }
lab:
  hosts: [h1, h2]
  machines:
    acme/floor/sender: { host: h1, address: [10.0.1.1/24, "fd00:1::1/64"] }
    acme/floor/near: { host: h1, address: [10.0.1.2/24, "fd00:1::2/64"] }
    acme/floor/other: { host: h1, address: [10.0.1.3/24, "fd00:1::3/64"] }
    acme/floor/far: { host: h2, address: [10.0.1.4/24, "fd00:1::4/64"] }
    acme/floor/deaf: { host: h2, address: [10.0.1.5/24, "fd00:1::5/64"] }
    acme/floor/old: { host: h2, address: [10.0.1.6/24, "fd00:1::6/64"] }
YAML
up
machines="near other far deaf old"
# listen MACHINE OPTIONS: writes what comes to port 5000 to $work/got.MACHINE; its number there is in $work/pid.MACHINE.
listen() {
    at acme/floor/$1 sh -c 'echo $$ >'"$work/pid.$1"'; exec socat -u '"$2"' -' >>"$work/got.$1" 2>"$work/out" & jobs="${jobs:-} $!"
}
# quit MACHINE: stops listening.
quit() { at acme/floor/$1 sh -c 'kill $(cat '"$work/pid.$1"')'; }
# Every machine's wire is watched: a group is to reach no interface whose machine did not join it.
for who in $machines; do
    at acme/floor/$who timeout 900 tcpdump -U --immediate-mode -l -n -i eth0 'udp port 5000' >"$work/wire.$who" 2>"$work/started.$who" &
done
at acme/floor/deaf timeout 900 tcpdump -U --immediate-mode -l -n -c 1 -i eth0 'ip6[6] == 0 and ip6[48] == 130' >"$work/query" 2>"$work/started" &
says "$work/started" 'listening on' || fail tcpdump
for who in $machines; do says "$work/started.$who" 'listening on' || fail "tcpdump of $who"; done
# send GROUP WORD: three times, a moment apart.
send() {
    local to=UDP4-DATAGRAM:$1:5000,ip-multicast-if=10.0.1.1,bind=10.0.1.1
    [ "${1#*:}" = "$1" ] || to=UDP6-DATAGRAM:[$1]:5000,bind=[fd00:1::1]
    at acme/floor/sender sh -c 'for _ in 1 2 3; do echo '"$2"' | socat -u - '"$to"'; sleep 0.1; done' >"$work/out" 2>&1 || fail "sending to $1"
}
# reaches WORD MACHINES: they heard it, and no frame of it came to others.
reaches() {
    local word=$1 who; shift
    for who in "$@"; do says "$work/got.$who" "^$word" 50 || fail "$who did not hear $word: $(cat "$work/got.$who")"; done
    sleep 0.3
    for who in $machines; do
        case " $* " in *" $who "*) continue ;; esac
        [ ! -s "$work/wire.$who" ] || fail "$word came to $who: $(cat "$work/wire.$who")"
    done
}
# joined GROUP COUNT: until so many ports have.
joined() {
    for _ in $(seq 150); do
        [ "$("$selvage" state --lab $lab "$1" 2>/dev/null | grep -c " $1 .*acme/floor")" = $((2 * $2)) ] && return 0
        sleep 0.1
    done
    "$selvage" state --lab $lab
    return 1
}
send 239.1.1.1 nobody
reaches nobody
listen near UDP4-RECV:5000,ip-add-membership=239.1.1.1:eth0,reuseaddr
listen far UDP4-RECV:5000,ip-add-membership=239.1.1.1:eth0,reuseaddr
joined 239.1.1.1 2 || fail "who joined is not known"
send 239.1.1.1 first
reaches first near far
send 239.1.1.2 second
sleep 0.5
grep second "$work"/got.* && fail "another group was heard"
# Who leaves is left out soon; who stays hears on.
quit far
for _ in $(seq 100); do send 239.1.1.1 third; : >"$work/wire.far"; send 239.1.1.1 fourth; [ -s "$work/wire.far" ] || break; done
[ -s "$work/wire.far" ] && fail "who left gets it still"
reaches fourth near
joined 239.1.1.1 1 || fail "who left is known still"
# A source of one's own choice.
quit near; : >"$work/wire.near"; : >"$work/wire.far"
joined 239.1.1.1 0 || fail "who left is known still"
: >"$work/wire.near"
at acme/floor/far /usr/bin/python3 -u -c '
import os, socket
print(os.getpid(), file=open("'"$work/pid.far"'", "w"), flush=True)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 5000))
s.setsockopt(0, 39, socket.inet_aton("232.1.1.1") + socket.inet_aton("10.0.1.4") + socket.inet_aton("10.0.1.1"))
while True: print(s.recv(2000).decode(), end="")' >>"$work/got.far" 2>"$work/out" & jobs="$jobs $!"
joined 232.1.1.1 1 || fail "who joined for a source is not known"
send 232.1.1.1 chosen
reaches chosen far
: >"$work/wire.far"
at acme/floor/other sh -c 'echo unwanted | socat -u - UDP4-DATAGRAM:232.1.1.1:5000,ip-multicast-if=10.0.1.3,bind=10.0.1.3' || fail "sending"
sleep 0.5
[ -s "$work/wire.far" ] && fail "another source came to who wants one"
quit far
# As of old.
at acme/floor/old sh -c 'echo 2 >/proc/sys/net/ipv4/conf/all/force_igmp_version; echo 1 >/proc/sys/net/ipv6/conf/eth0/force_mld_version'
listen old UDP4-RECV:5000,ip-add-membership=239.1.1.3:eth0,reuseaddr
joined 239.1.1.3 1 || fail "who joined by IGMPv2 is not known"
send 239.1.1.3 aged
: >"$work/wire.other"
reaches aged old
quit old
joined 239.1.1.3 0 || fail "who left by IGMPv2 is known still"
: >"$work/wire.old"
# IPv6: new and old.
listen near 'UDP6-RECV:5000,ipv6-join-group=[ff15::1]:eth0,reuseaddr'
listen old 'UDP6-RECV:5000,ipv6-join-group=[ff15::1]:eth0,reuseaddr'
joined ff15::1 2 || fail "who joined an IPv6 group is not known"
send ff15::1 sixth
reaches sixth near old
quit old
joined ff15::1 1 || fail "who left an IPv6 group is known still"
: >"$work/wire.old"
send ff15::1 seventh
reaches seventh near
# Neighbors are found by groups of the link, as without.
at acme/floor/sender ping -c 2 -i 0.2 -w 5 fd00:1::4 >"$work/out" || fail "neighbors do not find each other"
# Machines are asked, again and again.
says "$work/query" 'multicast listener query' 400 || fail "nobody asks: $(cat "$work/query")"
"$selvage" trace --lab $lab acme/floor/sender 'udp to [ff15::1]:5000' | tee "$work/out" | grep 'joined at acme/floor/near' || fail "trace does not tell"
"$selvage" trace --lab $lab acme/floor/sender 'join 239.9.9.9' | tee "$work/out" | grep '239.9.9.9: joined' || fail "trace does not tell"
# A multicast router, as one is known by what it asks, gets all.
at acme/floor/other /usr/bin/python3 -c '
import socket, struct
def sum16(b):
    s = sum(struct.unpack("!%dH" % (len(b) // 2), b)); s = (s >> 16) + (s & 0xffff); return ~(s + (s >> 16)) & 0xffff
q = struct.pack("!BBH4s", 0x11, 10, 0, bytes(4)); q = struct.pack("!BBH4s", 0x11, 10, sum16(q), bytes(4))
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 2); s.setsockopt(0, 33, 1)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.0.1.3")); s.sendto(q, ("224.0.0.1", 0))' || fail "asking"
: >"$work/wire.other"
for _ in $(seq 50); do send 239.5.5.5 routed; [ -s "$work/wire.other" ] && break; done
grep -q 239.5.5.5 "$work/wire.other" || fail "a multicast router does not get it"
for job in $jobs; do kill "$job" 2>/dev/null; done
echo passed
