#!/bin/bash
# Machines that ask for IPv6 addresses with two clients that are not ours: they are told by router advertisements to ask, get
# addresses, keep them over renewals, reboots and the end of nodes, give them back, and hear the rest where they make their own.
#   dhcp6.sh BINARY
lab=test-dhcp6; . "$(dirname "$0")/lib.sh"
cat >"$work/net.yaml" <<'YAML'
tunnel: vxlan
tenants:
  acme:
    bridges:
      office:
        subnet: "fd00:1::/64"
        ra: true
        dhcp: { range: "fd00:1::100-fd00:1::1ff", dns: ["fd00:2::53"], domain: office.example, ntp: ["fd00:2::7b"], lease: 120,
                hosts: ["0e:00:00:00:00:07 fd00:1::7 printer"] }
        ports:
          desk: { address: "fd00:1::11/64" }
          laptop: {}
          phone: {}
          printer: { mac: "0e:00:00:00:00:07" }
      home:
        subnet: "fd00:3::/64"
        ra: true
        dhcp: { stateless: true, dns: ["fd00:2::54"], search: [home.example] }
        ports: [tablet]
      servers: { subnet: "fd00:2::/64", ports: [web] }
    routers:
      gw: { links: [{ bridge: office }, { bridge: home }, { bridge: servers }] }
lab:
  hosts: [h1, h2, h3]
  machines:
    acme/office/desk: { host: h1, address: [] }
    acme/office/laptop: { host: h2 }
    acme/office/phone: { host: h3 }
    acme/office/printer: { host: h1 }
    acme/home/tablet: { host: h2 }
    acme/servers/web: { host: h3, address: "fd00:2::21/64" }
YAML
# The client changes addresses only: the machine's files are not its.
cat >"$work/isc.sh" <<'SH'
#!/bin/sh
echo "$reason $new_ip6_address dns $new_dhcp6_name_servers search $new_dhcp6_domain_search ntp $new_dhcp6_sntp_servers life $new_max_life" >>"$SAYS"
case $reason in
    BOUND6 | REBOOT6 | RENEW6 | REBIND6) ip -6 addr replace "$new_ip6_address/128" dev "$interface" nodad valid_lft "$new_max_life" preferred_lft "$new_preferred_life" ;;
    EXPIRE6 | RELEASE6 | STOP6 | DEPREF6) [ -z "$old_ip6_address" ] || ip -6 addr del "$old_ip6_address/128" dev "$interface" ;;
esac
exit 0
SH
chmod 755 "$work" "$work"/*.sh
isc() {   # isc MACHINE OPTIONS...: dhclient there, until it has an address; what it is told is in $work/says
    local machine=$1; shift
    rm -f "$work/says"
    at "$machine" env SAYS="$work/says" timeout 40 dhclient -6 -1 -v -e SAYS="$work/says" -sf "$work/isc.sh" -cf "$work/isc.conf" -lf "$work/leases.${machine##*/}" \
        -pf "$work/pid.${machine##*/}" "$@" eth0 >"$work/isc" 2>&1
}
echo 'also request dhcp6.sntp-servers;' >"$work/isc.conf"
ends() { local pid; pid=$(cat "$work/pid.$1" 2>/dev/null) && at "acme/office/$1" kill "$pid" 2>/dev/null; rm -f "$work/pid.$1"; }
address() { at "$1" ip -6 -br addr show eth0 scope global | grep -o 'fd00:[0-9a-f:]*/128' | sed 's/.128//'; }
up

# The network says that addresses are given, and machines make none themselves.
at acme/office/laptop rdisc6 -1 eth0 >"$work/out" 2>&1 || fail "nobody answers rdisc6"
for line in 'Stateful address conf. *: *Yes' 'Stateful other conf. *: *Yes' 'Autonomous address conf.: *No'; do
    grep -q "$line" "$work/out" || fail "rdisc6 does not hear: $line"
done
for who in laptop phone desk; do
    at acme/office/$who sh -c 'echo 3 >/proc/sys/net/ipv6/conf/eth0/router_solicitations; ip link set eth0 down; ip link set eth0 up'
    for _ in $(seq 100); do at acme/office/$who ip -6 route show default | grep -q 'via fe80::' && break; sleep 0.1; done
    for _ in $(seq 100); do at acme/office/$who ip -6 addr show dev eth0 scope link | grep -q 'tentative' || break; sleep 0.1; done
done

isc acme/office/laptop || { cp "$work/isc" "$work/out"; fail "dhclient got nothing"; }
own=$(address acme/office/laptop); echo "laptop $own"; grep BOUND6 "$work/says"
[[ $own =~ ^fd00:1::1[0-9a-f][0-9a-f]$ ]] || fail "dhclient has $own"
grep -q "BOUND6 $own dns fd00:2::53 search office.example. ntp fd00:2::7b life 120" "$work/says" || fail "that is not what was to be told"
at acme/office/laptop ping -c 2 -i 0.2 -W 2 fd00:2::21 >"$work/out" || fail "the address does not reach another network"
ends laptop
"$selvage" state --lab $lab "$own" >"$work/out"
[ "$(grep -c "acme/office *$own *acme/office/laptop *1[0-9][0-9] s" "$work/out")" = 3 ] || fail "not all hosts know the lease"
# After a reboot it says what it has, and keeps it, also when the node of its host is another by then.
quietly "$selvage" lab kill h2 --lab $lab && quietly "$selvage" lab start h2 --lab $lab || fail "the node does not start again"
at acme/office/laptop ip -6 addr flush dev eth0 scope global
isc acme/office/laptop || { cp "$work/isc" "$work/out"; fail "dhclient got nothing after a reboot"; }
grep -q 'XMT: Confirm' "$work/isc" || fail "it did not ask for what it had: $(cat "$work/isc")"
[ "$(address acme/office/laptop)" = "$own" ] || fail "it has another address"
ends laptop

# A port's machine has the address that the port says, and one that is named by its MAC its own.
isc acme/office/desk || { cp "$work/isc" "$work/out"; fail "dhclient got nothing"; }
[ "$(address acme/office/desk)" = fd00:1::11 ] || fail "the port's machine has $(address acme/office/desk)"
ends desk
at acme/office/printer timeout 30 dhcpcd --nobackground --oneshot -6 --noipv6rs --ia_na --script /bin/true eth0 >"$work/out" 2>&1
at acme/office/printer ip -6 -br addr show eth0 | grep -q 'fd00:1::7/' || fail "dhcpcd has $(at acme/office/printer ip -6 -br addr show eth0)"

# It gives its address back, and another machine gets one.
isc acme/office/laptop -r || fail "dhclient could not release"
grep -q 'XMT: Release' "$work/isc" || fail "it gave nothing back"
rm -f "$work/pid.laptop"
for _ in $(seq 100); do "$selvage" state --lab $lab "$own" | grep -q 'acme/office/laptop' || break; sleep 0.1; done
"$selvage" state --lab $lab "$own" | grep 'acme/office/laptop' && fail "the lease is there still"
isc acme/office/phone || { cp "$work/isc" "$work/out"; fail "another machine got nothing"; }
echo "phone $(address acme/office/phone)"; ends phone

# Where machines make addresses themselves they ask for the rest.
at acme/home/tablet rdisc6 -1 eth0 >"$work/out" 2>&1 || fail "nobody answers rdisc6"
grep -q 'Stateful address conf. *: *No' "$work/out" && grep -q 'Stateful other conf. *: *Yes' "$work/out" &&
    grep -q 'Autonomous address conf.: *Yes' "$work/out" || fail "the network says something else"
rm -f "$work/says"
at acme/home/tablet timeout 40 dhclient -6 -S -1 -v -e SAYS="$work/says" -sf "$work/isc.sh" -cf "$work/isc.conf" -lf "$work/leases.tablet" \
    -pf "$work/pid.tablet" eth0 >"$work/out" 2>&1 || fail "dhclient was not told"
grep 'dns fd00:2::54 search home.example.' "$work/says" || fail "that is not what was to be told: $(cat "$work/says")"
pid=$(cat "$work/pid.tablet" 2>/dev/null) && at acme/home/tablet kill "$pid" 2>/dev/null
"$selvage" trace --lab $lab acme/office/phone dhcp6 | grep -E 'dhcp6 .*solicit of .*: advertise fd00:1::1[0-9a-f]+, from fe80::' || fail "trace does not tell"
echo passed
