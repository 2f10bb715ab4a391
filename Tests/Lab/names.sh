#!/bin/bash
# Names of machines and of the world with dig: the host where a machine is answers for the tenant's ports, asks a resolver that
# is not ours for others, remembers what that says as long as it may, and goes on to the next when one is gone.
#   names.sh BINARY
lab=test-names; . "$(dirname "$0")/lib.sh"
cat >"$work/net.yaml" <<'YAML'
tunnel: vxlan
tenants:
  acme:
    bridges:
      office:
        subnet: [10.0.1.0/24, "fd00:1::/64"]
        dns: true
        dhcp: { range: 10.0.1.100-10.0.1.109 }
        ports: [desk, laptop]
      servers: { subnet: 10.0.2.0/24, ports: [web] }
    routers:
      gw: { links: [{ bridge: office }, { bridge: servers }] }
lab:
  hosts: [h1, h2]
  machines:
    acme/office/desk: { host: h1, address: [10.0.1.11/24, "fd00:1::11/64"] }
    acme/office/laptop: { host: h2 }
    acme/servers/web: { host: h2, address: 10.0.2.21/24 }
YAML
up
h1=$(at h1 ip -4 -br addr show scope global | sed -n 's/.* \([0-9.]*\)\/[0-9]*.*/\1/p' | head -1)
h2=$(at h2 ip -4 -br addr show scope global | sed -n 's/.* \([0-9.]*\)\/[0-9]*.*/\1/p' | head -1)
echo "hosts $h1 $h2"
ask() { local machine=$1; shift; at "$machine" dig +tries=1 +time=8 "$@"; }

[ "$(ask acme/office/desk +short @10.0.1.1 web.servers.acme.internal)" = 10.0.2.21 ] || fail "no address of web"
[ "$(ask acme/office/desk +short @fd00:1::1 desk.office.acme.internal aaaa)" = fd00:1::11 ] || fail "no IPv6 address of desk, by IPv6"
[ "$(ask acme/office/desk +short @10.0.1.1 -x 10.0.2.21)" = web.servers.acme.internal. ] || fail "10.0.2.21 has no name"
ask acme/office/desk @10.0.1.1 nobody.acme.internal >"$work/out"
grep -q 'status: NXDOMAIN' "$work/out" && grep -q 'SOA' "$work/out" && ! grep -q 'WARNING\|malformed\|Warning' "$work/out" || fail "nobody is somebody"
ask acme/office/desk @10.0.1.1 www.example.org >"$work/out"
grep -q 'status: REFUSED' "$work/out" || fail "somebody was asked"

# A machine that asks for its address is told whom to ask, and is known by name.
cat >"$work/isc.sh" <<'SH'
#!/bin/sh
echo "$reason $new_ip_address dns $new_domain_name_servers domain $new_domain_name" >>"$SAYS"
[ -z "$new_ip_address" ] || ip addr replace "$new_ip_address/24" dev "$interface"
exit 0
SH
chmod 755 "$work" "$work/isc.sh"
at acme/office/laptop timeout 40 dhclient -1 -v -e SAYS="$work/says" -sf "$work/isc.sh" -cf /dev/null -lf "$work/leases" -pf "$work/pid" eth0 >"$work/out" 2>&1 ||
    fail "dhclient got nothing"
grep 'BOUND 10.0.1.10[0-9] dns 10.0.1.1 domain acme.internal' "$work/says" || fail "it was told: $(cat "$work/says")"
own=$(sed -n 's/BOUND \([^ ]*\) .*/\1/p' "$work/says")
for _ in $(seq 100); do [ "$(ask acme/office/desk +short @10.0.1.1 laptop.acme.internal)" = "$own" ] && break; sleep 0.1; done
[ "$(ask acme/office/desk +short @10.0.1.1 laptop.acme.internal)" = "$own" ] || fail "the other host does not know laptop"
[ "$(ask acme/office/laptop +short @10.0.1.1 -x "$own")" = laptop.office.acme.internal. ] || fail "$own has no name"

# Others: a resolver on the second host, behind one that is not there.
"$selvage" export --lab $lab | sed "s/dns: {.*/dns: { domain: [acme.internal], forward: [$h1, $h2] }/" >"$work/new.yaml"
quietly "$selvage" apply "$work/new.yaml" --wait --lab $lab || fail apply
at h2 sh -c 'echo $$; exec dnsmasq -k -C /dev/null -u root -g root -p 53 --log-facility=- --log-queries -h -R --bind-interfaces --listen-address='"$h2"' \
    --address=/www.example.org/203.0.113.5 --local-ttl=100 --txt-record=big.example.org,'"$(printf 'x%.0s' $(seq 200)),$(printf 'y%.0s' $(seq 200)),$(printf 'z%.0s' $(seq 200))" >"$work/dnsmasq" 2>&1 &
says "$work/dnsmasq" 'started' || { cp "$work/dnsmasq" "$work/out"; fail "dnsmasq does not start"; }
[ "$(ask acme/office/desk +short @10.0.1.1 www.example.org)" = 203.0.113.5 ] || { cp "$work/dnsmasq" "$work/out"; fail "the world has no names"; }
for _ in $(seq 50); do   # until a second of its time is over
    ask acme/office/desk @10.0.1.1 WWW.example.org >"$work/out"; grep -q '^WWW.example.org.*\b9[0-9]\b' "$work/out" && break; sleep 0.1
done
grep -q '^WWW.example.org.*\b9[0-9]\b.*203.0.113.5' "$work/out" || fail "what is left of its time is not told"
[ "$(grep -c 'query\[A\] .*www.example.org' "$work/dnsmasq")" = 1 ] || fail "it was asked again"
# What does not fit is asked for otherwise, or said to be too long.
ask acme/office/desk +short +bufsize=1232 @10.0.1.1 big.example.org txt >"$work/out"; grep -q zzz "$work/out" || fail "a long answer did not come"
ask acme/office/desk +noedns +ignore @10.0.1.1 big.example.org txt >"$work/out"; grep -q 'flags:.* tc' "$work/out" || fail "it was not said to be cut"
[ "$(ask acme/office/desk +short @10.0.1.1 web.servers.acme.internal)" = 10.0.2.21 ] || fail "no address of web any more"
# Nobody is there any more: what is kept is told still, the rest is said to fail.
at h2 sh -c 'kill $(head -n 1 '"$work/dnsmasq"')' 2>/dev/null
for _ in $(seq 50); do pgrep -f "dnsmasq.*listen-address=$h2" >/dev/null || break; sleep 0.1; done
[ "$(ask acme/office/desk +short @10.0.1.1 www.example.org)" = 203.0.113.5 ] || fail "what was known is forgotten"
ask acme/office/desk @10.0.1.1 other.example.org >"$work/out"; grep -q 'status: SERVFAIL' "$work/out" || fail "nobody says that nobody answers"
"$selvage" trace --lab $lab acme/office/desk 'dns web.servers.acme.internal to 10.0.1.1' | grep 'dns .*A web.servers.acme.internal: 10.0.2.21' || fail "trace does not tell"
echo passed
