#!/bin/bash
# Machines that ask for addresses with three clients that are not ours: they get them, keep them over renewals, reboots and the
# end of nodes, are told when they come from elsewhere, and give them back.
#   dhcp.sh BINARY
lab=test-dhcp; . "$(dirname "$0")/lib.sh"
examples=$here/cluster-examples; [ -d "$examples" ] || examples=$here/../../cluster-examples
cp "$examples/dhcp.yaml" "$work/net.yaml"
# Clients change addresses only: the machine's files are not theirs.
cat >"$work/busy.sh" <<'SH'
#!/bin/sh
echo "$1 $ip/$mask router $router dns $dns domain $domain mtu $mtu lease $lease server $serverid routes $staticroutes host $hostname"
case $1 in
    bound | renew) ip addr replace "$ip/$mask" dev "$interface"; ip link set "$interface" mtu "$mtu"; ip route replace default via "$router" ;;
    deconfig) ip addr flush dev "$interface" scope global ;;
esac
SH
cat >"$work/isc.sh" <<'SH'
#!/bin/sh
case $reason in
    BOUND | REBOOT | RENEW | REBIND) ip addr replace "$new_ip_address/24" dev "$interface"; ip route replace default via "$new_routers" ;;
    EXPIRE | FAIL | RELEASE | STOP) ip addr flush dev "$interface" scope global ;;
esac
exit 0
SH
chmod 755 "$work" "$work"/*.sh
isc() {   # isc MACHINE OPTIONS...: dhclient there, until it has an address; what it says is in $work/isc
    local machine=$1; shift
    at "$machine" timeout 40 dhclient -1 -v -sf "$work/isc.sh" -cf /dev/null -lf "$work/leases.${machine##*/}" -pf "$work/pid.${machine##*/}" "$@" eth0 \
        >"$work/isc" 2>&1
}
ends() { local pid; pid=$(cat "$work/pid.$1" 2>/dev/null) && at "acme/office/$1" kill "$pid" 2>/dev/null; rm -f "$work/pid.$1"; }
address() { at "$1" ip -4 -br addr show eth0 | sed -n 's/.* \([0-9.]*\)\/24.*/\1/p'; }
up

# BusyBox: the port's address, and all that is said of the network. It asks for it again when it is told to.
at acme/office/desk sh -c 'echo $$; exec udhcpc -f -n -i eth0 -s '"$work"'/busy.sh -O staticroutes -O mtu -O hostname' >"$work/busy" 2>&1 &
says "$work/busy" '^bound ' || { cp "$work/busy" "$work/out"; fail "udhcpc got nothing"; }
grep '^bound' "$work/busy"
grep -q '^bound 10.0.1.11/24 router 10.0.1.1 dns 10.0.2.53 10.0.2.54 domain office.example mtu 1450 lease 120 server 10.0.1.1 routes 192.0.2.0/24 10.0.1.254 0.0.0.0/0 10.0.1.1 host desk' "$work/busy" ||
    fail "that is not what was to be told"
at acme/office/desk ping -c 1 -W 2 10.0.2.21 >/dev/null || fail "the address does not work"
at acme/office/desk kill -USR1 "$(head -n 1 "$work/busy")"
says "$work/busy" '^renew ' || { cp "$work/busy" "$work/out"; fail "udhcpc could not renew"; }
at acme/office/desk kill -USR2 "$(head -n 1 "$work/busy")"; at acme/office/desk kill "$(head -n 1 "$work/busy")"

# ISC: an address of the range. After a reboot it asks for the same, also when the node of its host is another by then.
isc acme/office/laptop || { cp "$work/isc" "$work/out"; fail "dhclient got nothing"; }
own=$(address acme/office/laptop); echo "laptop $own"
[[ $own =~ ^10\.0\.1\.1[0-9][0-9]$ ]] || fail "dhclient has $own"
at acme/office/laptop ping -c 1 -W 2 10.0.2.21 >/dev/null || fail "the address does not work"
ends laptop
"$selvage" state --lab $lab "$own" >"$work/out"
[ "$(grep -c "acme/office *$own *acme/office/laptop *1[0-9][0-9] s" "$work/out")" = 3 ] || fail "not all hosts know the lease"
quietly "$selvage" lab kill h2 --lab $lab && quietly "$selvage" lab start h2 --lab $lab || fail "the node does not start again"
isc acme/office/laptop || { cp "$work/isc" "$work/out"; fail "dhclient got nothing after a reboot"; }
grep -q 'DHCPDISCOVER' "$work/isc" && fail "it had to begin again: $(cat "$work/isc")"
[ "$(address acme/office/laptop)" = "$own" ] || fail "it has another address"
ends laptop

# One that comes from another network is told so at once, and begins anew.
sed 's/10\.0\.1\./192.168.7./g' "$work/leases.laptop" >"$work/leases.phone"
began=$(now); isc acme/office/phone || { cp "$work/isc" "$work/out"; fail "dhclient got nothing elsewhere"; }
took=$(($(now) - began))
grep -q 'DHCPNAK' "$work/isc" || fail "it was not told: $(cat "$work/isc")"
other=$(address acme/office/phone); echo "phone $other, $took ms after it asked for 192.168.7.x"
[ "$other" != "$own" ] && [[ $other =~ ^10\.0\.1\.1 ]] || fail "it has $other"

# It gives its address back: another machine that asks for it gets it.
isc acme/office/phone -r || fail "dhclient could not release"
rm -f "$work/pid.phone"
at acme/office/phone ip addr flush dev eth0 scope global

# dhcpcd, as a printer that has an address by its MAC; it looks whether somebody has it first.
at acme/office/printer timeout 30 dhcpcd --nobackground --oneshot -4 --script /bin/true eth0 >"$work/out" 2>&1
[ "$(address acme/office/printer)" = 10.0.1.7 ] || fail "dhcpcd has $(address acme/office/printer)"
at acme/office/desk udhcpc -f -q -n -i eth0 -r "$other" -s "$work/busy.sh" >"$work/out" 2>&1 || fail "udhcpc got nothing again"
grep -q 'lease of 10.0.1.11 obtained' "$work/out" || fail "a port's machine got another address"
"$selvage" trace --lab $lab acme/office/phone dhcp | grep -E 'dhcp .*offer 10\.0\.1\.1[0-9][0-9], from 10\.0\.1\.1$' || fail "trace does not tell"
