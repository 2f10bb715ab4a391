# shellcheck shell=bash
# Connections between all hosts of a lab with machines app1-app3 and db1-db3, in the direction of the db's, that go on to the end; sourced when
# the lab is up, with $connections (of each pair) and $most (milliseconds).
for db in db1 db2 db3; do at acme/db/$db python3 "$here/talkers.py" serve 9000 >"$work/$db" 2>&1 & done
for db in db1 db2 db3; do says "$work/$db" ready || fail "nobody listens at $db"; done
pairs="app1:12 app1:13 app2:11 app2:13 app3:11 app3:12"
for pair in $pairs; do
    mkfifo "$work/in.$pair"
    at acme/app/${pair%:*} python3 "$here/talkers.py" talk 10.0.2.${pair#*:} 9000 "$connections" 10.0.2.${pair#*:} 9000 \
        <"$work/in.$pair" >"$work/talk.$pair" 2>&1 &
done
exec {a}>"$work/in.app1:12" {b}>"$work/in.app1:13" {c}>"$work/in.app2:11" {d}>"$work/in.app2:13" {e}>"$work/in.app3:11" {f}>"$work/in.app3:12"
for pair in $pairs; do
    says "$work/talk.$pair" connected || { cp "$work/talk.$pair" "$work/out"; fail "$pair is not connected"; }
done

# stretch WORDS: how long nothing went since the last one, and for how long a connection was silent: TCP asks again after 200 ms or
# somewhat more, then after twice that.
stretches=0
stretch() {
    stretches=$((stretches + 1))
    local worst=0 longest=0 dead=0 silence gap lost pair
    for out in $a $b $c $d $e $f; do echo >&"$out"; done
    for pair in $pairs; do
        local _; for _ in $(seq 100); do [ "$(grep -c stretch "$work/talk.$pair")" -ge $stretches ] && break; sleep 0.05; done
        read -r _ _ _ _ lost _ silence _ gap < <(grep stretch "$work/talk.$pair" | tail -1)
        [ "${gap:-99999}" -gt $worst ] && worst=${gap:-99999}
        [ "${silence:-99999}" -gt $longest ] && longest=${silence:-99999}
        [ "${lost:-all}" = 0 ] || dead=${lost:-all}
    done
    echo "$1: longest silence $worst ms (TCP $longest)"
    [ "$dead" = 0 ] || fail "$1: connections died: $dead"
    [ $worst -le "$most" ] && [ $longest -le $((2 * most + 500)) ] || fail "$1: that is too long"
}

# carried HOST CARD: bytes that it sent so far.
carried() { at "$1" awk -v card="$2:" '$1 == card { print $10 }' /proc/net/dev; }
share() {
    local first second; first=$(carried h1 eth0) second=$(carried h1 eth1); sleep 1
    echo "$(($(carried h1 eth0) - first)) $(($(carried h1 eth1) - second))"
}
