#!/bin/bash
# A pair of machines with keepalived (VRRP): the address that both stand for goes to the other one when the first dies, and
# those who talk to it, in its network and from beyond the router, follow at once.
#   failover.sh BINARY
lab=test-failover; . "$(dirname "$0")/lib.sh"
cat >"$work/net.yaml" <<'YAML'
tunnel: vxlan
tenants:
  acme:
    bridges:
      web: { subnet: 10.0.1.0/24, ports: { one: {}, two: {}, near: {} } }
      other: { subnet: 10.0.2.0/24, ports: { far: {} } }
    routers:
      edge: { links: [{ bridge: web }, { bridge: other }] }
lab:
  hosts: [h1, h2, h3]
  machines:
    acme/web/one: { host: h1, address: 10.0.1.11/24 }
    acme/web/two: { host: h2, address: 10.0.1.12/24 }
    acme/web/near: { host: h3, address: 10.0.1.13/24 }
    acme/other/far: { host: h3, address: 10.0.2.14/24 }
YAML
up
# start MACHINE STATE PRIORITY: keepalived in it; its number is in $work/MACHINE.
start() {
    cat >"$work/$1.conf" <<CONF
global_defs { router_id $1 }
vrrp_instance shared {
    state $2
    interface eth0
    virtual_router_id 51
    priority $3
    advert_int 0.2
    garp_master_delay 1
    version 3
    virtual_ipaddress { 10.0.1.100/24 }
}
CONF
    at "acme/web/$1" sh -c "echo \$\$ >$work/$1.process; exec keepalived -n -l -D -f $work/$1.conf -p $work/$1.pid -r $work/$1.vrrp" >"$work/$1.log" 2>&1 &
}
start one MASTER 150
says "$work/one.log" "Entering MASTER STATE" || fail "the first does not take the address: $(tail -3 "$work/one.log")"
start two BACKUP 100
says "$work/two.log" "Entering BACKUP STATE" || fail "the second does not wait"

pings=
for who in web/near other/far; do
    at "acme/$who" ping -D -i 0.01 -w 6 10.0.1.100 >"$work/ping.${who#*/}" 2>&1 & pings="$pings $!"
done
for who in near far; do says "$work/ping.$who" "bytes from" || fail "$who does not reach the address"; done
at acme/web/near ip neigh show 10.0.1.100 | grep -o 'lladdr [0-9a-f:]*' >"$work/before"
for who in near far; do says "$work/ping.$who" "icmp_seq=80 " || fail "$who does not go on reaching it"; done
# It dies with its cable: no goodbye.
at acme/web/one sh -c "kill -9 \$(cat $work/one.process) \$(cat $work/one.vrrp 2>/dev/null); ip addr del 10.0.1.100/24 dev eth0"
says "$work/two.log" "Entering MASTER STATE" 50 || fail "the second does not take the address"
# shellcheck disable=SC2086
wait $pings
at acme/web/near ip neigh show 10.0.1.100 | grep -o 'lladdr [0-9a-f:]*' >"$work/after"
cmp -s "$work/before" "$work/after" && fail "the address is where it was"
for who in near far; do
    sent=$(sed -n 's/^\([0-9]*\) packets transmitted.*/\1/p' "$work/ping.$who")
    gap=$(longest "$work/ping.$who" "$sent")
    echo "$who: $gap of $sent pings of 10 ms lost in a row"
    # Three advertisements of 0.2 s, and a bit by priority (RFC 5798 section 6.1), are the protocol's own.
    [ "$gap" -le "${MOST:-120}" ] || fail "$who was cut off for too long"
done
"$selvage" trace acme/other/far 'icmp to 10.0.1.100' --lab $lab | tail -4 | head -2
# Back with a higher priority.
start one MASTER 150
says "$work/one.log" "Entering MASTER STATE" || fail "the first does not take the address back"
at acme/web/near ping -c 3 -i 0.2 -w 5 10.0.1.100 >"$work/out" || fail "the address does not answer"
at acme/other/far ping -c 3 -i 0.2 -w 5 10.0.1.100 >"$work/out" || fail "the address does not answer beyond the router"
echo passed
