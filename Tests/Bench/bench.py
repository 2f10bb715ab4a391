#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Figures of Selvage beside those of a peer, taken in the same run.

Usage: bench.py SELVAGE SELVAGE_BENCH [--seconds N] [--runs N]     (root)

Writes bench.json, one object a line (name, value, unit, and where there is one: peer, peer_value, ratio), and prints the
same as a table. Ours and the peer's are measured in turn, medians are told. A peer that is not installed is named.
Everything is made in network namespaces of this run and removed at its end; daemons are ended by their process id.
"""
import argparse, asyncio, json, os, re, shutil, signal, statistics, subprocess, sys, tempfile, time

import cluster as clusters
from conntrackd import Conntrackd
from etcd import Etcd
from ovn import OVN

RESULTS = []
CLEANUP = []


def run(*command, check=True, timeout=120, **extra):
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, **extra)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-400:]} {done.stderr[-400:]}")
    return done.stdout


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} did not come in {seconds} s")
        time.sleep(0.02)


def inside(namespace, *command, **extra):
    return run("ip", "netns", "exec", namespace, *command, **extra)


def namespace(name):
    run("ip", "netns", "add", name)
    CLEANUP.append(lambda: run("ip", "netns", "del", name, check=False))
    run("ip", "-n", name, "link", "set", "lo", "up")
    for scope in ("all", "default"):
        inside(name, "sysctl", "-qw", f"net.ipv6.conf.{scope}.disable_ipv6=1", check=False)


def machine(name, switch, port, mac, address, gateway=None):
    namespace(name)
    run("ip", "link", "add", port, "netns", switch, "type", "veth", "peer", "name", "eth0", "netns", name)
    run("ip", "-n", name, "link", "set", "eth0", "address", mac)
    run("ip", "-n", name, "addr", "add", address, "dev", "eth0")
    run("ip", "-n", name, "link", "set", "eth0", "up")
    run("ip", "-n", switch, "link", "set", port, "up")
    if gateway:
        run("ip", "-n", name, "route", "add", "default", "via", gateway)


def daemon(command, log):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def end():
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    CLEANUP.append(end)
    return process


def rss_mb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1)) / 1024


class Selvage:
    """A node of ours between namespaces."""
    name = "selvage"

    def __init__(self, binary, tag, work, datapath="userspace", host="h1"):
        self.binary, self.tag, self.work, self.datapath, self.host = binary, tag, work, datapath, host

    def start(self, manifest, ports, underlay=None):
        self.switch = f"{self.tag}-s"
        namespace(self.switch)
        if underlay:
            underlay(self.switch)
        for arguments in ports:
            machine(arguments[0], self.switch, *arguments[1:])
        file = os.path.join(self.work, f"{self.tag}.yaml")
        open(file, "w").write(manifest)
        self.socket = os.path.join(self.work, f"{self.tag}.sock")
        log = os.path.join(self.work, f"{self.tag}.log")
        data = os.path.join(self.work, f"{self.tag}.data")
        run(self.binary, "cluster", "init", "--name", self.host, "--address", "127.0.0.1", "--tunnel-address", "none",
            "--data", data)
        began = time.monotonic()
        self.process = daemon(
            ["ip", "netns", "exec", self.switch, self.binary, "node", "--data", data, "--socket", self.socket,
             "--datapath", self.datapath], open(log, "w"))
        wait_for(lambda: "is ready" in open(log).read(), 10, "the node")
        self.started = time.monotonic() - began
        run(self.binary, "apply", file, "--wait", "--socket", self.socket)
        return self


class OpenVSwitch:
    """ovs-vswitchd with its userspace or the kernel's datapath between namespaces."""

    def __init__(self, tag, work, datapath="netdev"):
        self.tag, self.directory, self.datapath = tag, os.path.join(work, tag), datapath
        self.name = "ovs-userspace" if datapath == "netdev" else "ovs-kernel"

    @staticmethod
    def missing():
        return [tool for tool in ("ovs-vswitchd", "ovsdb-server", "ovs-vsctl", "ovs-ofctl") if not shutil.which(tool)]

    def start(self, ports, underlay=None):
        self.switch = f"{self.tag}-s"
        namespace(self.switch)
        if underlay:
            underlay(self.switch)
        # It counts processors only when the machine is up for 10 s, and takes no upcalls without.
        wait_for(lambda: float(open("/proc/uptime").read().split()[0]) > 12, 15, "the machine's uptime")
        os.mkdir(self.directory)
        d = self.directory
        run("ovsdb-tool", "create", f"{d}/conf.db", "/usr/share/openvswitch/vswitch.ovsschema")
        environment = dict(os.environ, OVS_RUNDIR=d)
        self.database = subprocess.Popen(
            ["ovsdb-server", f"{d}/conf.db", f"--remote=punix:{d}/db.sock", f"--unixctl={d}/db.ctl", f"--log-file={d}/db.log",
             "-vconsole:off"], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        CLEANUP.append(lambda: (self.database.kill(), self.database.wait()))
        wait_for(lambda: os.path.exists(f"{d}/db.sock"), 10, "ovsdb-server")
        self.vsctl("--no-wait", "init")
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.switch, "ovs-vswitchd", f"unix:{d}/db.sock", f"--unixctl={d}/vsw.ctl",
             f"--log-file={d}/vsw.log", "-vconsole:off"], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        CLEANUP.append(lambda: (self.process.kill(), self.process.wait()))
        wait_for(lambda: os.path.exists(f"{d}/vsw.ctl"), 15, "ovs-vswitchd")
        self.vsctl("add-br", "br0", "--", "set", "bridge", "br0", f"datapath_type={self.datapath}", "fail-mode=secure",
                   "protocols=OpenFlow13")
        for number, arguments in enumerate(ports, 1):
            machine(arguments[0], self.switch, *arguments[1:])
            if self.datapath == "netdev":   # does not complete partial checksums
                inside(arguments[0], "ethtool", "-K", "eth0", "tx", "off")
            self.vsctl("add-port", "br0", arguments[1], "--", "set", "interface", arguments[1], f"ofport_request={number}")
        wait_for(lambda: os.path.exists(f"{d}/br0.mgmt"), 10, "the bridge")
        self.openflow("add-flow", "priority=1,actions=NORMAL")
        return self

    def vsctl(self, *arguments):
        run("ovs-vsctl", f"--db=unix:{self.directory}/db.sock", "--timeout=20", *arguments)

    def openflow(self, command, argument):
        run("ovs-ofctl", "-O", "OpenFlow13", "--timeout=30", *(["--bundle"] if command == "replace-flows" else []), command,
            f"unix:{self.directory}/br0.mgmt", argument)

    def match_ports(self):
        """A rule for each source and destination port, so that each flow of the measure is one of the datapath."""
        file = os.path.join(self.directory, "rules")
        with open(file, "w") as out:
            out.write("table=0,priority=1,actions=NORMAL\n")
            for port in range(10000, 11024):
                out.write(f"table=0,priority=10,udp,tp_src={port},actions=resubmit(,1)\n")
            for port in range(20000, 22048):
                out.write(f"table=1,priority=10,udp,tp_dst={port},actions=output:2\n")
        self.openflow("replace-flows", file)

    def forget(self):
        run("ovs-appctl", "-t", f"{self.directory}/vsw.ctl", "revalidator/purge")


def tcp(a, b, address, seconds):
    server = subprocess.Popen(["ip", "netns", "exec", b, "iperf3", "-s", "-1"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: ":5201" in inside(b, "ss", "-Hltn"), 5, "iperf3")
        out = json.loads(inside(a, "iperf3", "-c", address, "-t", str(seconds), "-J", timeout=seconds + 30))
        return out["end"]["sum_received"]["bits_per_second"] / 1e9
    finally:
        server.kill()
        server.wait()


def rtt(a, address):
    out = inside(a, "ping", "-n", "-c", "300", "-i", "0.003", "-W", "1", address, check=False)
    times = [float(t) * 1000 for t in re.findall(r"time=([0-9.]+) ms", out)]
    if len(times) < 100:
        raise RuntimeError("ping: " + out[-300:])
    return statistics.median(times)


def blast(tool, a, b, mac, source, destination, seconds, **options):
    command = [tool, "blast", "--from", f"/run/netns/{a}", "--to", f"/run/netns/{b}", "--mac", mac, "--source", source,
               "--destination", destination, "--seconds", str(seconds)]
    for key, value in options.items():
        command += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    return json.loads(run(*command))["per_second"]


def result(name, value, unit, peer=None, peer_value=None, **more):
    entry = {"name": name, "value": round(value, 4), "unit": unit}
    if peer_value:
        entry.update(peer=peer, peer_value=round(peer_value, 4), ratio=round(value / peer_value, 3))
    entry.update(more)
    RESULTS.append(entry)
    print("  " + json.dumps(entry), file=sys.stderr, flush=True)


PLAIN = """
hosts: { h1: { address: 192.0.2.1 } }
tenants:
  t:
    bridges:
      b:
        ports:
          a: { host: h1, interface: pa, mac: "0e:00:00:00:00:0a", address: 10.0.0.1/24 }
          b: { host: h1, interface: pb, mac: "0e:00:00:00:00:0b", address: 10.0.0.2/24 }
"""
# Two routes of equal cost: each new pair of ports is a decision and a flow of its own.
SHARED = """
hosts: { h1: { address: 192.0.2.1 } }
tenants:
  t:
    bridges:
      near: { ports: { a: { host: h1, interface: pa, mac: "0e:00:00:00:00:0a", address: 10.0.0.1/24 } } }
      far: { ports: { b: { host: h1, interface: pb, mac: "0e:00:00:00:00:0b", address: 10.0.9.2/24 } } }
    routers:
      one:
        links:
          - { bridge: near, address: 10.0.0.254/24, mac: "0e:00:00:00:00:fe" }
          - { router: two, name: left, address: 10.1.0.1/30, peer: 10.1.0.2/30 }
          - { router: two, name: right, address: 10.1.0.5/30, peer: 10.1.0.6/30 }
        routes: [{ to: 10.0.9.0/24, via: 10.1.0.2 }, { to: 10.0.9.0/24, via: 10.1.0.6 }]
      two:
        links: [{ bridge: far, address: 10.0.9.254/24 }]
        routes: [{ to: 10.0.0.0/24, via: 10.1.0.1 }]
"""
MAC_A, MAC_B, MAC_GATEWAY = "0e:00:00:00:00:0a", "0e:00:00:00:00:0b", "0e:00:00:00:00:fe"


def state(options, work):
    """What telling other nodes of connections costs; conntrackd's kernels make theirs from a file."""
    reach = {"state.rate": "ratio >= 3", "state.delay.p50": "<= 0.5", "state.delay.p99": "<= 5", "state.cpu": "<= 15",
             "state.wire": "<= 120", "journal.rows": ">= 500000", "journal.restart": "<= 1",
             "state.strangers": "<= 25", "state.forged": "<= 25"}
    ours = {}
    for _ in range(options.runs):
        for command in (["state", "--rounds", "1"], ["hostile"]):
            for line in run(options.tool, *command, timeout=300).splitlines():
                entry = json.loads(line)
                ours.setdefault(entry["name"], (entry["unit"], []))[1].append(entry["value"])
    peer = None
    missing = Conntrackd.missing()
    if missing:
        print(f"  no peer for state.rate: {missing} is not installed", file=sys.stderr)
    else:
        try:
            other = Conntrackd(namespace, run, daemon, wait_for, f"sb{os.getpid() % 10000}", work)
            peer = statistics.median(other.rate(10_000) for _ in range(options.runs))
        except RuntimeError as error:
            print(f"  no peer for state.rate: {error}", file=sys.stderr)
    for name, (unit, values) in ours.items():
        more = {"peer": "conntrackd", "peer_value": peer} if name == "state.rate" else {}
        result(name, statistics.median(values), unit, reach=reach[name], **more)


def userspace(options, work):
    ours = Selvage(options.selvage, "bs", work).start(
        PLAIN, [("bs-a", "pa", MAC_A, "10.0.0.1/24"), ("bs-b", "pb", MAC_B, "10.0.0.2/24")])
    starts = [ours.started]
    result("node.rss", rss_mb(ours.process.pid), "MB", reach="< 40")
    shared = Selvage(options.selvage, "bf", work).start(
        SHARED, [("bf-a", "pa", MAC_A, "10.0.0.1/24", "10.0.0.254"), ("bf-b", "pb", MAC_B, "10.0.9.2/24", "10.0.9.254")])
    starts.append(shared.started)
    result("node.start", statistics.median(starts) * 1000, "ms", reach="< 300")
    peer = None
    missing = OpenVSwitch.missing()
    if missing:
        print(f"no peer: {', '.join(missing)} missing (Debian package openvswitch-switch)", file=sys.stderr)
    else:
        peer = OpenVSwitch("bo", work).start(
            [("bo-a", "pa", MAC_A, "10.0.0.1/24"), ("bo-b", "pb", MAC_B, "10.0.0.2/24")])
        wait_for(lambda: subprocess.run(["ip", "netns", "exec", "bo-a", "ping", "-c1", "-W1", "10.0.0.2"],
                                        capture_output=True).returncode == 0, 15, "a path through the peer")
    for name in ("bs-a",):
        inside(name, "ping", "-c", "3", "-i", "0.05", "10.0.0.2")
    inside("bf-a", "ping", "-c", "3", "-i", "0.05", "10.0.9.2")
    seconds = options.seconds

    def paired(name, unit, mine, theirs, **more):
        a, b = [], []
        for _ in range(options.runs):
            a.append(mine())
            if peer:
                b.append(theirs())
        result(name, statistics.median(a), unit, "ovs-userspace", statistics.median(b) if b else None, **more)

    paired("userspace.tcp", "Gbit/s", lambda: tcp("bs-a", "bs-b", "10.0.0.2", seconds),
           lambda: tcp("bo-a", "bo-b", "10.0.0.2", seconds), reach=">= 12 x")
    paired("userspace.rtt", "us", lambda: rtt("bs-a", "10.0.0.2"), lambda: rtt("bo-a", "10.0.0.2"), reach="<= 0.5 x")
    send = options.tool
    paired("userspace.pps", "1/s", lambda: blast(send, "bs-a", "bs-b", MAC_B, "10.0.0.1", "10.0.0.2", seconds),
           lambda: blast(send, "bo-a", "bo-b", MAC_B, "10.0.0.1", "10.0.0.2", seconds), reach=">= 1.5 x")
    if peer:
        peer.match_ports()
    counter = [0]

    def new_flows(a, b, mac, destination, before=None):
        if before:
            before()
        counter[0] += 300_000
        return blast(send, a, b, mac, "10.0.0.1", destination, seconds, window=128, flows=True, first=counter[0])

    paired("userspace.newflows", "1/s", lambda: new_flows("bf-a", "bf-b", MAC_GATEWAY, "10.0.9.2"),
           lambda: new_flows("bo-a", "bo-b", MAC_B, "10.0.0.2", peer.forget), reach=">= 1.3 x")


TUNNEL = """
tunnel: gre
hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 } }
tenants:
  t:
    bridges:
      b:
        ports:
          a: { host: h1, interface: pa, mac: "0e:00:00:00:00:0a", address: 10.0.0.1/24 }
          b: { host: h2, interface: pb, mac: "0e:00:00:00:00:0b", address: 10.0.0.2/24 }
"""


def kernel(options, work):
    """In User-Mode Linux: our kernel datapath and Open vSwitch's in one kernel, one after the other."""
    missing = OpenVSwitch.missing()
    seconds, send, measured = options.seconds, options.tool, {}

    def underlay(name, other, address):
        def connect(switch):
            if other:
                run("ip", "link", "add", "under", "netns", switch, "type", "veth", "peer", "name", "under", "netns", other)
                for place, own in ((switch, address), (other, "192.0.2.1/24")):
                    run("ip", "-n", place, "addr", "add", own, "dev", "under")
                    run("ip", "-n", place, "link", "set", "under", "up")
        return connect

    def connections(a, b, address, length):
        return float(run(options.tool, "connections", "--from", f"/run/netns/{a}", "--to", f"/run/netns/{b}",
                         "--destination", address, "--seconds", str(length)))

    def take(name, body):
        measured.setdefault(name, []).append(body())

    def flows(a, b, mac, destination, first):
        return blast(send, a, b, mac, "10.0.0.1", destination, seconds, window=64, flows=True, first=first)

    def end_all():
        # The next one must find no module's port or interface of this one.
        while CLEANUP and CLEANUP[-1] is not mark:
            CLEANUP.pop()()

    mark = lambda: None
    CLEANUP.append(mark)
    Selvage(options.selvage, "k1", work, "kernel", "h1").start(TUNNEL, [("ka", "pa", MAC_A, "10.0.0.1/24")])
    Selvage(options.selvage, "k2", work, "kernel", "h2").start(
        TUNNEL, [("kb", "pb", MAC_B, "10.0.0.2/24")], underlay("k2", "k1-s", "192.0.2.2/24"))
    for name in ("ka", "kb"):
        run("ip", "-n", name, "link", "set", "eth0", "mtu", "1450")
    wait_for(lambda: "1 received" in inside("ka", "ping", "-c1", "-W1", "10.0.0.2", check=False), 15, "a path across GRE")
    for _ in range(options.runs):
        take("ours.tcp", lambda: tcp("ka", "kb", "10.0.0.2", seconds))
    end_all()
    Selvage(options.selvage, "kf", work, "kernel").start(
        SHARED, [("fa", "pa", MAC_A, "10.0.0.1/24", "10.0.0.254"), ("fb", "pb", MAC_B, "10.0.9.2/24", "10.0.9.254")])
    inside("fa", "ping", "-c", "3", "-i", "0.05", "10.0.9.2")
    for index in range(options.runs):
        take("ours.flows", lambda: flows("fa", "fb", MAC_GATEWAY, "10.0.9.2", index * 200_000))
    end_all()
    Selvage(options.selvage, "kn", work, "kernel").start(
        NAT, [("na", "pa", MAC_A, "10.0.0.1/24", "10.0.0.254"), ("nb", "pb", MAC_B, "10.0.9.2/24", "10.0.9.254")])
    wait_for(lambda: float(connections("na", "nb", "10.0.9.2", 0.3)) > 10, 15, "connections through our translation")
    for _ in range(options.runs):
        take("ours.connections", lambda: connections("na", "nb", "10.0.9.2", seconds))
    end_all()
    if missing:
        print(f"no peer: {', '.join(missing)} missing (Debian package openvswitch-switch)", file=sys.stderr)
    else:
        one = OpenVSwitch("o1", work, "system").start([("oa", "pa", MAC_A, "10.0.0.1/24")])
        two = OpenVSwitch("o2", work, "system").start(
            [("ob", "pb", MAC_B, "10.0.0.2/24")], underlay("o2", "o1-s", "192.0.2.2/24"))
        for switch, local, remote in ((one, "192.0.2.1", "192.0.2.2"), (two, "192.0.2.2", "192.0.2.1")):
            switch.vsctl("add-port", "br0", "t0", "--", "set", "interface", "t0", "type=gre", "options:key=5001",
                         f"options:local_ip={local}", f"options:remote_ip={remote}")
        for name in ("oa", "ob"):
            run("ip", "-n", name, "link", "set", "eth0", "mtu", "1450")
        wait_for(lambda: "1 received" in inside("oa", "ping", "-c1", "-W1", "10.0.0.2", check=False), 20, "the peer's GRE")
        for _ in range(options.runs):
            take("theirs.tcp", lambda: tcp("oa", "ob", "10.0.0.2", seconds))
        end_all()
        peer = OpenVSwitch("of", work, "system").start(
            [("ga", "pa", MAC_A, "10.0.0.1/24"), ("gb", "pb", MAC_B, "10.0.0.2/24")])
        wait_for(lambda: "1 received" in inside("ga", "ping", "-c1", "-W1", "10.0.0.2", check=False), 20, "the peer's path")
        peer.match_ports()
        for index in range(options.runs):
            peer.forget()
            take("theirs.flows", lambda: flows("ga", "gb", MAC_B, "10.0.0.2", index * 200_000))
        end_all()
        tracked()
        wait_for(lambda: float(connections("ta", "tb", "10.0.0.2", 0.3)) > 10, 15, "connections through the kernel's own")
        for _ in range(options.runs):
            take("theirs.connections", lambda: connections("ta", "tb", "10.0.0.2", seconds))
        end_all()
    middle = {name: statistics.median(values) for name, values in measured.items()}
    result("kernel.gre.tcp", middle["ours.tcp"], "Gbit/s", "ovs-kernel", middle.get("theirs.tcp"), reach=">= 0.95 x")
    result("kernel.newflows", middle["ours.flows"], "1/s", "ovs-kernel", middle.get("theirs.flows"), reach=">= 1.5 x")
    result("kernel.connections", middle["ours.connections"], "1/s", "ovs-kernel-ct", middle.get("theirs.connections"),
           reach=">= 1 x", note="theirs: warm flows of the kernel datapath, put there by hand")


def tracked():
    """The kernel's datapath with its own tracking of connections: stateful both ways, the first port's source translated.
    ovs-vswitchd always names a zone, which the guest's kernel does not have: so the flows are put there by hand, as it would
    leave them once they are warm."""
    namespace("tk")
    for name, port, mac, address in (("ta", "pa", MAC_A, "10.0.0.1/24"), ("tb", "pb", MAC_B, "10.0.0.2/24")):
        machine(name, "tk", port, mac, address)
    dpctl = lambda *arguments: inside("tk", "ovs-dpctl", *arguments)
    dpctl("add-dp", "tracked")
    CLEANUP.append(lambda: dpctl("del-dp", "tracked"))
    for port in ("pa", "pb"):
        dpctl("add-if", "tracked", port)
    ip = "eth(),eth_type(0x0800),ipv4(frag=no)"
    for port, other in ((1, 2), (2, 1)):
        dpctl("add-flow", "tracked", f"in_port({port}),eth(),eth_type(0x0806),arp()", str(other))
        dpctl("add-flow", "tracked", f"recirc_id(0),in_port({port}),{ip}", f"ct(nat),recirc({port})")
        dpctl("add-flow", "tracked", f"recirc_id({port}),in_port({port}),ct_state(-new+est+trk),{ip}", str(other))
    dpctl("add-flow", "tracked", f"recirc_id(1),in_port(1),ct_state(+new+trk),{ip}",
          "ct(commit,nat(src=10.0.0.100-10.0.0.107)),2")
    for last in range(100, 108):
        inside("tb", "ip", "neigh", "replace", f"10.0.0.{last}", "lladdr", MAC_A, "dev", "eth0")


NAT = """
hosts: { h1: { address: 192.0.2.1 } }
tenants:
  t:
    securityGroups: { client: {}, server: { in: [{ protocol: tcp, port: 8080 }] } }
    bridges:
      near: { ports: { a: { host: h1, interface: pa, mac: "0e:00:00:00:00:0a", address: 10.0.0.1/24, security: client } } }
      far: { ports: { b: { host: h1, interface: pb, mac: "0e:00:00:00:00:0b", address: 10.0.9.2/24, security: server } } }
    routers:
      one:
        links: [{ bridge: near, address: 10.0.0.254/24 }, { bridge: far, address: 10.0.9.254/24 }]
        nat: [{ outPort: one/far, action: "snat 10.0.9.100-10.0.9.107" }]
"""


def middle(values):
    return statistics.median(values)


def agreement(options, work):
    """What three members agree on in a second, beside three of etcd on the same disk; and the same through our API."""
    ours, theirs, api = {}, {}, {}
    missing = Etcd.missing()
    if missing:
        print(f"no peer: {', '.join(missing)} missing (Debian packages etcd-server, etcd-client)", file=sys.stderr)
    failovers, their_failovers = [], []
    # Each alone: even idle nodes take of the processors that the others are measured on.
    for index in range(options.runs):
        directory = f"{work}/store{index}"
        os.makedirs(directory)
        for line in run(options.tool, "store", "--directory", directory, "--runs", "1", "--seconds",
                        str(options.seconds)).splitlines():
            ours.setdefault((figure := json.loads(line))["clients"], []).append(figure)
        if not missing:
            etcd = Etcd(options.tool, f"{work}/etcd{index}")
            try:
                etcd.grow()
                for clients in (1, 16, 64):
                    theirs.setdefault(clients, []).append(etcd.load(clients, options.seconds))
                their_failovers += [etcd.failover() * 1000 for _ in range(2)]
            finally:
                etcd.stop()
        nodes = clusters.Cluster(options.selvage, f"{work}/nodes{index}")
        try:
            nodes.grow()
            for clients in (1, 16, 64):
                rate = asyncio.run(clusters.load(nodes.socket(nodes.leader()), clients, options.seconds))[0]
                api.setdefault(clients, []).append(rate)
            failovers += [asyncio.run(clusters.failover(nodes)) * 1000 for _ in range(2)]
        finally:
            nodes.stop()
    etcd = bool(theirs)
    for clients in (1, 16, 64):
        peer = middle([f["writes_per_s"] for f in theirs[clients]]) if etcd else None
        result(f"raft.writes.{clients}", middle([f["writes_per_s"] for f in ours[clients]]), "1/s", "etcd-3", peer,
               reach=">= 1 x" if clients == 1 else ">= 1.5 x", note="our clients are tasks beside the leader, etcd's use gRPC")
    result("raft.p99.16", middle([f["p99_ms"] for f in ours[16]]), "ms", "etcd-3",
           middle([f["p99_ms"] for f in theirs[16]]) if etcd else None, reach="<= 1 x")
    for clients in (1, 16, 64):
        result(f"api.writes.{clients}", middle(api[clients]), "1/s", "etcd-3",
               middle([f["writes_per_s"] for f in theirs[clients]]) if etcd else None)
    result("raft.failover", middle(failovers), "ms", "etcd-3", middle(their_failovers) if etcd else None, reach="<= 1 x")


def convergence(options, work):
    """What it takes to put a topology and one change of it in force on all hosts."""
    ports, bound = 500, 50
    namespace("bc")
    for number in range(bound):
        run("ip", "-n", "bc", "link", "add", f"i{number}", "type", "veth", "peer", "name", f"j{number}")
        for end in "ij":
            run("ip", "-n", "bc", "link", "set", f"{end}{number}", "up")
    def start_of(*command):
        times = []
        for _ in range(10):
            began = time.perf_counter()
            run(*command)
            times.append((time.perf_counter() - began) * 1000)
        return middle(times)

    creations, commands, changes, commits = [], [], [], []
    for index in range(options.runs):
        directory = f"{work}/converge{index}"
        os.makedirs(directory)
        nodes = clusters.Cluster(options.selvage, directory, namespace="bc")
        try:
            nodes.grow()
            creations.append(nodes.apply(clusters.drawing(10, ports, bound), "--wait") * 1000)
            commands += [nodes.apply(clusters.one_port(number), "--wait") * 1000 for number in range(20)]
            change, commit = clusters.wait_cost(nodes, bound, 40)
            changes.append(change)
            commits.append(commit)
        finally:
            nodes.stop()
    created = changed = begun = None
    if OVN.missing():
        print(f"no peer: {', '.join(OVN.missing())} missing (Debian packages ovn-central, ovn-host)", file=sys.stderr)
    else:
        creation, change, addition = [], [], []
        for index in range(options.runs):
            peer = OVN(f"{work}/ovn{index}", run, wait_for, namespace)
            try:
                peer.start()
                creation.append(peer.create(ports, 10, bound) * 1000)
                change += [peer.change(number) * 1000 for number in range(20)]
                addition += [peer.add_port(number, ports) * 1000 for number in range(20)]
            finally:
                peer.stop()
                for name in ("bv1", "bv2"):
                    run("ip", "netns", "del", name, check=False)
        created, changed, begun = middle(creation), min(middle(change), middle(addition)), start_of("ovn-nbctl", "--version")
    result("apply.wait", middle(a - b for a, b in zip(changes, commits)), "ms", reach="< 10")
    result("apply.ports", middle(creations), "ms", "ovn", created, reach="<= 0.25 x",
           note="the command from start to end; OVN's ports have a rule each")
    result("apply.change", middle(changes), "ms", "ovn", changed and changed - begun, reach="<= 0.15 x",
           note="ours by the API; of the peer's command the start of the process is taken off; the quicker of a rule and a port")
    result("apply.command", middle(commands), "ms", "ovn", changed, note="commands from start to end",
           start=round(start_of(options.selvage, "--version"), 1), peer_start=begun and round(begun, 1))


def migration(options, work):
    """Pings lost, one each millisecond, when a port moves to another host while nothing else is sent."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../Lab/migrate.sh")
    done = subprocess.run(["bash", script, options.selvage], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
                          env=dict(os.environ, LOAD="no", MOVES="7"))
    if done.returncode:
        raise RuntimeError(f"migrate.sh: {done.stdout[-500:]}{done.stderr[-500:]}")
    gaps = [int(n) for n in re.search(r"^gaps (.*) median", done.stdout, re.M).group(1).split()]
    theirs = None
    if OVN.missing():
        print(f"no peer: {', '.join(OVN.missing())} missing (Debian packages ovn-central, ovn-host)", file=sys.stderr)
    else:
        peer = OVN(f"{work}/ovn-moves", run, wait_for, namespace)
        try:
            peer.start()
            theirs = peer.moves(7)
        finally:
            peer.stop()
    # Of the peer often none is lost; a ratio needs one.
    result("migrate.gap", middle(gaps), "ms", "ovn", theirs and max(1, middle(theirs)), reach="<= 1 x", all=gaps, peer_all=theirs)
    result("migrate.dying", int(re.search(r"^gap (\d+) when", done.stdout, re.M).group(1)), "ms", reach="< 300",
           note="the old host dies at that moment")


def capacity(options, work):
    """A node with 100,000 ports."""
    directory = f"{work}/capacity"
    os.makedirs(directory)
    figures = clusters.many_ports(options.selvage, directory, 100_000)
    result("store.snapshot", figures["snapshot"], "s", reach="< 3")
    result("store.restart", figures["restart"], "s", reach="< 3")
    result("store.rss", figures["rss"], "MB", reach="< 300")
    result("store.change", figures["change"] * 1000, "ms", note="one port more, put in force")


def table():
    rows = [("NAME", "OURS", "UNIT", "PEER", "PEER'S", "RATIO", "REACH")]
    for r in RESULTS:
        rows.append((r["name"], f"{r['value']:g}", r["unit"], r.get("peer", ""),
                     f"{r['peer_value']:g}" if "peer_value" in r else "", str(r.get("ratio", "")), r.get("reach", "")))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def kernel_lane(options):
    guest = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../Kernel/uml")
    part = os.path.join(os.getcwd(), options.output + ".kernel")
    done = subprocess.run(
        [guest, "-t", "420", sys.executable, os.path.abspath(__file__), options.selvage, options.tool, "--lane", "kernel",
         "--output", part, "--seconds", str(options.seconds), "--runs", str(options.runs)], stdout=subprocess.DEVNULL)
    if done.returncode:
        print(f"the kernel lane failed with status {done.returncode}", file=sys.stderr)
    if os.path.exists(part):
        RESULTS.extend(json.loads(line) for line in open(part))
        os.remove(part)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("selvage")
    parser.add_argument("tool")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", default="bench.json")
    parser.add_argument("--lane", choices=("here", "kernel"), default="here")
    parts = ("simulate", "state", "userspace", "agreement", "convergence", "migration", "capacity", "kernel")
    parser.add_argument("--only", action="append", choices=parts, help="this part; may be given several times")
    options = parser.parse_args()
    work = tempfile.mkdtemp(prefix="selvage-bench.")
    first = lambda: shutil.rmtree(work, ignore_errors=True)
    CLEANUP.append(first)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if options.lane == "kernel":
            kernel(options, work)
            return
        wanted = options.only or parts
        for line in run(options.tool, "simulate").splitlines() if "simulate" in wanted else []:
            entry = json.loads(line)
            reach = {"simulate.bridge": "<= 0.5", "simulate.routers": "<= 1.5", "rules.ratio": "<= 1.3",
                     "state.bytes": "<= 200", "routes.ratio": "<= 1.5", "simulate.stateful": "<= 2",
                     **{f"balance.{how}.ratio": "<= 2"
                        for how in ("round-robin", "least-connections", "source-hash", "maglev")}}.get(entry["name"])
            result(entry["name"], entry["value"], entry["unit"], reach=reach, allocations=entry["allocations"])
        if os.geteuid() != 0:
            print("the rest makes network namespaces and needs root", file=sys.stderr)
            return
        for part in (state, userspace, agreement, convergence, migration, capacity):
            if part.__name__ in wanted:
                part(options, work)
                # What a part left running would disturb the next.
                while CLEANUP[-1] is not first:
                    CLEANUP.pop()()
        if "kernel" in wanted:
            kernel_lane(options)
    finally:
        for step in reversed(CLEANUP):
            step()
        with open(options.output, "w") as out:
            for entry in RESULTS:
                out.write(json.dumps(entry) + "\n")
        table()


main()
