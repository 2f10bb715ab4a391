#!/usr/bin/python3
"""The life of a cluster of real nodes, from its founding to its recovery; and what it does with strangers.   life.py BINARY"""
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from prometheus_client.parser import text_string_to_metric_families

from cluster import Cluster, Refused, wait_for

passed = 0


def check(what, condition=True):
    global passed
    assert condition, what
    passed += 1
    print(f"ok      {what}", flush=True)


def refused(what, text, code, body):
    try:
        body()
    except Refused as error:
        assert text in error.text and error.code == code, f"{what}: {error}"
        return check(what)
    raise AssertionError(f"{what}: it was done")


def put(c, node, name, timeout=15):
    return c.request(node, "PUT", f"/v1/bridges/t/{name}", {}, timeout=timeout)[0]


def growing(c):
    c.found("n1")
    c.join("n2", "n1")
    c.join("n3", "n1")
    wait_for(lambda: list(c.roles("n1").values()) == ["voter"] * 3, 20, "three voters")
    check("three nodes from nothing are a cluster")
    token = c.ask("n1", "cluster", "token", "--role", "learner")
    c.run("cluster", "join", token, *c.place("n4"))
    c.start("n4")
    wait_for(lambda: c.roles("n1").get("n4") == "learner", 20, "n4 is a learner")
    refused("a token is for one node", "used already", 1, lambda: c.run("cluster", "join", token, *c.place("n5")))
    refused("a token that was changed is refused", "none of this cluster", 1, lambda: c.run(
        "cluster", "join", token.replace(token.split(".")[2], "00" * 24), *c.place("n5")))
    shutil.rmtree(c.data("n5"), ignore_errors=True)
    c.ask("n2", "cluster", "promote", "n4")
    check("a fourth joins as learner and is promoted", c.roles("n1")["n4"] == "voter")
    c.ask("n2", "cluster", "demote", "n4")
    check("and is demoted again", c.roles("n1")["n4"] == "learner")


def changing(c):
    manifest = f"{c.directory}/network.yaml"
    open(manifest, "w").write(
        "tenants: { acme: { bridges: { web: { subnet: 10.0.1.0/24, ports: [a, b] } }, routers: { gw: { links: [{ bridge: web }] } } } }\n")
    try:
        c.ask("n2", "diff", manifest)
        raise AssertionError("nothing would change")
    except Refused as error:
        check("diff tells what would change", error.code == 1 and "+ port   acme/web/a" in error.text)
    check("apply makes it so, on all nodes", "revision" in c.ask("n3", "apply", manifest, "--wait"))
    check("applying again changes nothing", "nothing to change" in c.ask("n1", "apply", manifest))
    began = time.monotonic()
    status, _ = c.request("n2", "PUT", "/v1/bridges/acme/web?wait=true&waitSeconds=20", {"subnets": ["10.0.1.0/24"]})
    check("waiting for a change that changes nothing waits for nobody", status == 200 and time.monotonic() - began < 5)
    check("every node knows it", all("bridge web" in c.ask(n, "topology") for n in ("n1", "n2", "n3", "n4")))
    exported = f"{c.directory}/export.yaml"
    open(exported, "w").write(c.ask("n4", "export"))
    check("what is exported is what there is", "nothing to change" in c.ask("n1", "apply", exported))
    refused("what would not work is refused with its reason", "is already the address of", 1, lambda: (
        c.request("n1", "PUT", "/v1/ports/acme/web/a", {"addresses": ["10.0.1.9/24"]}),
        print_problem(c.request("n1", "PUT", "/v1/ports/acme/web/b", {"addresses": ["10.0.1.9/24"]}))))
    revision = c.get("n1", "/v1/ports/acme/web/a")[1]["revision"]
    status, _ = c.request("n1", "POST", "/v1/transactions", {
        "preconditions": [{"kind": "port", "name": "acme/web/a", "revision": revision - 1}],
        "operations": [{"kind": "port", "name": "acme/web/a", "action": "delete"}]})
    check("a change for another revision is a conflict", status == 409)
    watch = subprocess.Popen([c.binary, "watch", "--socket", c.socket("n3"), "-o", "json"], stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(0.3)
        put(c, "n1", "seen")
        check("watch tells what changes", '"t/seen"' in watch.stdout.readline())
    finally:
        watch.kill()
        watch.wait()
    refused("there is no such thing: exit status 3", "no such", 3, lambda: c.ask("n1", "get", "port", "acme/web/z"))


def print_problem(answer):
    status, body = answer
    raise Refused(1 if status == 422 else 0, str(body))


def failing(c):
    leader = c.leader()
    survivor = next(n for n in ("n1", "n2", "n3") if n != leader)
    c.kill(leader)
    began = time.monotonic()
    wait_for(lambda: put(c, survivor, "after") in (200, 201), 10, "a write after the leader's end")
    took = time.monotonic() - began
    check(f"the leader is killed: writes go on after {took:.2f} s", took < 2)
    other = next(n for n in ("n1", "n2", "n3") if n not in (leader, survivor))
    wait_for(lambda: next(n for n in c.status(survivor)["nodes"] if n["name"] == leader)["status"] == "down", 10, "the leader is seen down")
    refused("removing a voter that is needed is refused", "could not commit anything", 1,
            lambda: c.ask(survivor, "cluster", "remove", other, "--yes"))
    c.kill(other)
    wait_for(lambda: c.status(survivor).get("leader") is None, 10, "the survivor has no leader")
    refused("without a majority changes are refused: exit status 5", "no quorum", 5,
            lambda: c.ask(survivor, "delete", "bridge", "t/after"))
    check("what is known can be read with --stale", "t/after" in c.ask(survivor, "get", "bridges", "--stale"))
    check("and the node says that it is stale", "STALE" in c.ask(survivor, "status"))
    c.start(leader)
    c.start(other)
    wait_for(lambda: c.get(survivor, "/readyz")[0] == 200, 20, "all are back")
    check("a majority is back: writes go on", put(c, survivor, "again") in (200, 201))
    name = c.leader()
    check("leadership is handed over", c.ask(name, "cluster", "transfer").split()[0] != name)


def strangers(c):
    peer, api = c.ports["n1"]
    before = c.status("n1")["refusedConnections"]
    for port in (peer, api):
        for noise in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(3000), b"\x16\x03\x01\xff\xff" + os.urandom(500), b""):
            s = socket.create_connection(("127.0.0.1", port), 5)
            s.sendall(noise)
            s.close()
    wait_for(lambda: c.status("n1")["refusedConnections"] > before, 10, "noise is counted")
    check("noise on every port is refused and counted")
    held = []
    for number in range(10_000):
        try:
            s = socket.socket()
            s.settimeout(0.2)
            s.connect(("127.0.0.1", (peer, api)[number % 2]))
            held.append(s)
        except OSError:
            pass
    check("10,000 connections that say nothing: the node lives, and agrees", put(c, "n1", "busy") in (200, 201))
    rss = int(next(l for l in open(f"/proc/{c.processes['n1'].pid}/status") if l.startswith("VmRSS")).split()[1]) // 1024
    check(f"its memory is bounded: {rss} MB", rss < 300)
    for s in held:
        s.close()
    context = ssl.create_default_context(cafile=f"{c.data('n1')}/authorities.pem")
    with socket.create_connection(("127.0.0.1", api), 10) as raw, context.wrap_socket(raw, server_hostname="127.0.0.1") as tls:
        tls.sendall(b"GET /v1/bridges HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        check("over TLS nobody sees anything without a key or a certificate", b" 401 " in tls.recv(4096))


def figures(c):
    """What is for Prometheus, as its own library reads it."""
    code, text = c.get("n1", "/metrics")
    families = {f.name: f for f in text_string_to_metric_families(text.decode())}
    check(f"{len(families)} figures for Prometheus", code == 200 and len(families) > 40)
    check("each has a help text and a type", all(f.documentation and f.type != "unknown" for f in families.values()))
    peers = {s.labels["peer"] for s in families["selvage_state_peer_acknowledged_seconds"].samples}
    check("how long rows take to come to each other node", {"n2", "n3"} <= peers)
    rounds = families["selvage_state_comparing_seconds"].samples
    buckets = [s.value for s in rounds if s.name.endswith("_bucket")]
    total = next(s.value for s in rounds if s.name.endswith("_count"))
    check("counts by how long add up", buckets == sorted(buckets) and buckets[-1] == total > 0)
    limits = {s.labels["kind"]: s.value for s in families["selvage_state_rows_limit"].samples}
    rows = {s.labels["kind"]: s.value for s in families["selvage_state_rows"].samples}
    check("bounds stand beside what they bound", all(rows[kind] <= limits[kind] for kind in rows))
    code, other = c.get("n1", "/metrics?host=n2")
    check("another node's by asking this one", code == 200 and 'host="n2"' in other.decode())


def curl(c, *arguments, output=("-o", "/dev/null", "-w", "%{http_code}")):
    _, api = c.ports["n1"]
    done = subprocess.run(["curl", "-sS", "--cacert", f"{c.data('n1')}/authorities.pem", *output,
                           *arguments[:-1], f"https://127.0.0.1:{api}{arguments[-1]}"], capture_output=True, text=True, timeout=20)
    return done.stdout


def access(c):
    key = c.ask("n1", "cluster", "keys", "create", "reader", "--role", "viewer")
    bearer = ("-H", f"Authorization: Bearer {key}")
    check("a viewer's key reads", curl(c, *bearer, "/v1/ports") == "200")
    check("and does not write", curl(c, *bearer, "-X", "DELETE", "/v1/bridges/t/busy") == "403")
    check("and sees no tokens", curl(c, *bearer, "/v1/cluster/tokens") == "403")
    check("and reads the figures", curl(c, *bearer, "/metrics") == "200")
    own = c.ask("n1", "cluster", "keys", "create", "acme", "--role", "tenant:acme")
    bearer = ("-H", f"Authorization: Bearer {own}", "-X", "PUT", "-d", "{}", "-H", "Content-Type: application/json")
    check("a tenant's key writes what is the tenant's", curl(c, *bearer, "/v1/bridges/acme/own") in ("200", "201"))
    check("and nothing else", curl(c, *bearer, "/v1/bridges/t/other") == "403")
    bind = ("-H", f"Authorization: Bearer {own}", "-X", "PUT", "-H", "Content-Type: application/json", "-d",
            '{"host":"n1","interface":"lo"}')
    check("and sees no figures", curl(c, "-H", f"Authorization: Bearer {own}", "/metrics") == "403")
    check("it binds no interface of a host", curl(c, *bind, "/v1/ports/acme/own/p") == "403")
    names = ("-H", f"Authorization: Bearer {own}", "-X", "PUT", "-H", "Content-Type: application/json", "-d")
    drawn = '{"subnets":["10.7.0.0/24"],"dns":{%s}}'
    check("it has names of its own", curl(c, *names, drawn % "", "/v1/bridges/acme/own") in ("200", "201"))
    check("and has no host ask others for more", curl(c, *names, drawn % '"forward":["127.0.0.53"]', "/v1/bridges/acme/own") in ("403", "422"))
    check("nor ask whom it likes", curl(c, *names, drawn % '"forward":["192.0.2.1"]', "/v1/bridges/acme/own") == "403")
    check("and sees no hosts", curl(c, "-H", f"Authorization: Bearer {own}", "/v1/hosts?tenant=acme") == "403")
    check("it has routers", curl(c, *names, "{}", "/v1/routers/acme/gw") in ("200", "201"))
    check("that say nothing to the world", curl(c, *names, '{"bgp":{"as":["65001"]}}', "/v1/routers/acme/gw") == "403")
    port = '{"addresses":["100.64.1.2/30"],"peers":[{"address":["100.64.1.1"],"as":["65100"],"password":["s3cret"]}]%s}'
    check("nor run anything on hosts", curl(c, *names, port % ',"snippet":"log \\"/tmp/x\\" all;"', "/v1/ports/acme/gw/up") == "403")
    c.ask("n1", "cluster", "certs", "--issue", "net", "--role", "operator", "--out", c.directory)
    cert = ("--cert", f"{c.directory}/net.crt", "--key", f"{c.directory}/net.key", "-X", "PUT", "-H", "Content-Type: application/json", "-d")
    check("an operator has routers speak BGP", curl(c, *cert, '{"bgp":{"as":["65001"]}}', "/v1/routers/acme/gw") == "200")
    check("by uplinks", curl(c, *cert, port % ',"host":"n1","interface":"nosuch0"', "/v1/ports/acme/gw/up") in ("200", "201"))
    for path in ("/v1/ports/acme/gw/up", "/v1/ports?tenant=acme", "/v1/export"):
        seen = curl(c, "-H", f"Authorization: Bearer {key}", path, output=())
        check(f"a viewer sees no password in {path}", "100.64.1.1" in seen and "s3cret" not in seen)
    c.ask("n1", "cluster", "keys", "delete", "reader")
    check("a key that was deleted is worth nothing", curl(c, "-H", f"Authorization: Bearer {key}", "/v1/ports") == "401")
    c.ask("n1", "cluster", "certs", "--issue", "ops", "--role", "operator", "--out", c.directory)
    cert = ("--cert", f"{c.directory}/ops.crt", "--key", f"{c.directory}/ops.key")
    check("an operator's certificate sees tokens", curl(c, *cert, "/v1/cluster/tokens") == "200")
    _, api = c.ports["n2"]
    check("the command works from elsewhere, by certificate", "n3" in c.run(
        "cluster", "list", "--server", f"127.0.0.1:{api}", "--ca", f"{c.directory}/authorities.pem", "--cert",
        f"{c.directory}/ops.crt", "--key", f"{c.directory}/ops.key"))


def says(c, node, text, seconds=15):
    wait_for(lambda: text in c.log(node), seconds, f"{node} says \"{text}\"")


def impostors(c):
    # A node of another cluster that has got the address of one of this.
    other = Cluster(c.binary, c.directory, first_port=17600)
    os.makedirs(other.data("x1"), exist_ok=True)
    shutil.rmtree(other.data("x1"))
    other.ports["x1"] = c.ports["n4"]
    c.kill("n4")
    other.found("x1")
    says(c, c.leader(), "is not taken")
    check("a node of another cluster at a known address is not taken for ours")
    other.stop()
    # A disk that is older than what the others know: as after a copy, or a restored image.
    shutil.copytree(c.data("n4"), c.data("old"))
    c.start("n4")
    wait_for(lambda: c.get("n4", "/readyz")[0] == 200, 20, "n4 is back")
    c.kill("n4")
    c.start("n4")
    wait_for(lambda: c.get("n4", "/readyz")[0] == 200, 20, "n4 is back again")
    c.kill("n4")
    shutil.move(c.data("n4"), c.data("kept"))
    shutil.move(c.data("old"), c.data("n4"))
    c.start("n4")
    says(c, "n4", "copied id or restored disk")
    check("a restored disk is refused and told why")
    c.kill("n4")
    shutil.rmtree(c.data("n4"))
    shutil.move(c.data("kept"), c.data("n4"))
    for file in ("log.db", "log.db-wal"):
        if os.path.exists(f"{c.data('n4')}/{file}"):
            os.remove(f"{c.data('n4')}/{file}")
    c.start("n4", wait=False)
    c.processes.pop("n4").wait(20)
    says(c, "n4", "this member has lost its log")
    check("a wiped disk is refused and told why")
    c.ask("n1", "cluster", "remove", "n4", "--yes")
    refused("a name is free again only when its node was removed", "is the name of node", 1, lambda: c.run(
        "cluster", "join", c.ask("n1", "cluster", "token"), *c.place("n4")[:1], "n3", *c.place("n4")[2:-1], c.data("n5")))
    shutil.rmtree(c.data("n4"))
    shutil.rmtree(c.data("n5"), ignore_errors=True)
    c.join("n4", "n2", "--role", "learner")
    check("wiped and joined anew, it is a node again")


def certificate(c, name, days, signed):
    """A certificate of a node's form, by the cluster's authority or by nobody."""
    base = f"{c.directory}/{name}"
    identity = json.load(open(f"{c.data('n1')}/node.json"))
    with open(f"{base}.ext", "w") as out:
        out.write(f"subjectAltName=URI:selvage://{identity['cluster']}/node/00000000000000aa\n")
    run = lambda *command: subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=20)
    run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout",
        f"{base}.key", "-out", f"{base}.csr")
    if signed:
        key = next(f for f in os.listdir(c.data("n1")) if f.startswith("authority-"))
        signer = ["-CA", f"{c.data('n1')}/authorities.pem", "-CAkey", f"{c.data('n1')}/{key}", "-CAcreateserial",
                  "-CAserial", f"{base}.srl"]
    else:
        signer = ["-signkey", f"{base}.key"]
    run("x509", "-req", "-in", f"{base}.csr", *signer, "-days", str(days), "-extfile", f"{base}.ext", "-out", f"{base}.crt")
    return f"{base}.crt", f"{base}.key"


def strange_certificates(c):
    def shown(pair):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(*pair)
        try:
            with socket.create_connection(("127.0.0.1", c.ports["n1"][0]), 5) as raw, context.wrap_socket(raw) as tls:
                tls.settimeout(5)
                tls.recv(1)
        except OSError:
            pass
    ended = certificate(c, "ended", 0, True)
    time.sleep(1.1)
    shown(ended)
    says(c, "n1", "certificate has expired")
    check("a certificate that has ended is refused and told why")
    shown(certificate(c, "own", 30, False))
    says(c, "n1", "self-signed")
    check("a certificate that nobody signed is refused and told why")
    check("and the node lives", put(c, "n1", "unimpressed") in (200, 201))


def rotating(c):
    before = c.get("n1", "/v1/cluster/authorities")[1]["authorities"][0]["fingerprint"]
    c.kill("n4")
    c.ask("n1", "cluster", "certs", "--rotate")
    states = lambda: sorted(a["state"] for a in c.get("n2", "/v1/cluster/authorities")[1]["authorities"])
    wait_for(lambda: states() == ["active", "trusted"], 20, "the new authority is known")
    time.sleep(5)
    check("another authority does not sign while a node does not know it", states() == ["active", "trusted"])
    c.start("n4")
    wait_for(lambda: [a["state"] for a in c.get("n2", "/v1/cluster/authorities")[1]["authorities"]] == ["active"]
             and c.get("n2", "/v1/cluster/authorities")[1]["authorities"][0]["fingerprint"] != before, 60, "another authority")
    check("another authority signs, and the old one is trusted no more")
    check("and the cluster went on", put(c, "n3", "rotated") in (200, 201))
    for name in list(c.processes):
        c.kill(name)
    for name in ("n1", "n2", "n3", "n4"):
        c.start(name)
    wait_for(lambda: c.get("n1", "/readyz")[0] == 200, 20, "all are back")
    check("all start again with their new certificates", put(c, "n1", "restarted") in (200, 201))


def recovering(c):
    snapshot = f"{c.directory}/snapshot"
    c.ask("n1", "cluster", "snapshot", "save", snapshot)
    check("a snapshot says what is in it", "nodes     n1, n2, n3, n4" in c.run("cluster", "snapshot", "inspect", snapshot))
    cluster = c.status("n1")["cluster"]
    c.kill("n3")
    refused("recovering while a majority is alive is refused", "a majority is alive", 1,
            lambda: c.run("cluster", "recover", "--data", c.data("n3"), "--cluster", cluster))
    for name in list(c.processes):
        c.kill(name)
    refused("recovering has to be meant", "--cluster " + cluster, 1, lambda: c.run("cluster", "recover", "--data", c.data("n3")))
    c.run("cluster", "recover", "--data", c.data("n3"), "--cluster", cluster)
    c.start("n3")
    wait_for(lambda: c.get("n3", "/readyz")[0] == 200, 20, "the survivor leads")
    check("one survivor is a cluster again, with all that was drawn", "bridge web" in c.ask("n3", "topology"))
    check("and changes it", put(c, "n3", "recovered") in (200, 201))
    c.start("n2", wait=False)
    says(c, "n2", "is not taken")
    check("a node of the old cluster is refused")
    c.kill("n2")
    shutil.rmtree(c.data("n2"))
    c.join("n2", "n3")
    check("wiped, it joins the new one", wait_for(lambda: "bridge web" in c.ask("n2", "topology"), 10, "n2 knows"))
    c.run("cluster", "snapshot", "restore", snapshot, *c.place("r1"))
    c.start("r1")
    wait_for(lambda: c.get("r1", "/readyz")[0] == 200, 20, "the restored node leads")
    check("a snapshot is the beginning of a cluster", "bridge web" in c.ask("r1", "topology"))


def main(binary):
    with tempfile.TemporaryDirectory(prefix="selvage-life-") as directory:
        c = Cluster(binary, directory)
        try:
            for part in (growing, changing, failing, strangers, access, figures, impostors, strange_certificates, rotating, recovering):
                part(c)
        except BaseException:
            for name in sorted(os.listdir(directory)):
                if name.endswith(".log"):
                    print(f"== {name}\n" + "".join(open(f"{directory}/{name}").readlines()[-15:]), file=sys.stderr)
            raise
        finally:
            c.stop()
    print(f"{passed} passed, 0 failed")


main(os.path.abspath(sys.argv[1]))
