# SPDX-License-Identifier: Apache-2.0
"""OVN with two chassis on this machine, the peer of what it takes to put a topology in force."""
import os
import re
import shutil
import subprocess
import time

clock = time.perf_counter


class OVN:
    """`host` makes a namespace with an Open vSwitch of the userspace datapath and gives its directory; `run` and `daemon` are
    those of the bench."""

    def __init__(self, directory, run, wait_for, namespace):
        self.directory, self.run, self.wait_for, self.namespace = directory, run, wait_for, namespace
        self.processes = []
        os.makedirs(directory, exist_ok=True)

    @staticmethod
    def missing():
        return [name for name in ("ovn-northd", "ovn-controller", "ovn-nbctl", "ovs-vswitchd") if not shutil.which(name)]

    def daemon(self, *command, **environment):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=dict(os.environ, **environment))
        self.processes.append(process)

    def nb(self, *arguments):
        return self.run("ovn-nbctl", f"--db=unix:{self.directory}/nb.sock", "--timeout=60", *arguments)

    def start(self):
        d = self.directory
        for name in ("nb", "sb"):
            self.run("ovsdb-tool", "create", f"{d}/{name}.db", f"/usr/share/ovn/ovn-{name}.ovsschema")
            self.daemon("ovsdb-server", f"{d}/{name}.db", f"--remote=punix:{d}/{name}.sock", f"--unixctl={d}/{name}.ctl",
                        f"--log-file={d}/{name}.log", "-vconsole:off", OVN_RUNDIR=d)
            self.wait_for(lambda: os.path.exists(f"{d}/{name}.sock"), 10, f"the {name} database")
        self.nb("init")
        self.run("ovn-sbctl", f"--db=unix:{d}/sb.sock", "init")
        self.daemon("ovn-northd", f"--ovnnb-db=unix:{d}/nb.sock", f"--ovnsb-db=unix:{d}/sb.sock", f"--unixctl={d}/northd.ctl",
                    f"--log-file={d}/northd.log", "-vconsole:off", OVN_RUNDIR=d)
        for number in (1, 2):
            self.chassis(number)

    def chassis(self, number):
        name, d = f"bv{number}", f"{self.directory}/{number}"
        os.makedirs(d)
        self.namespace(name)
        self.run("ovsdb-tool", "create", f"{d}/conf.db", "/usr/share/openvswitch/vswitch.ovsschema")
        self.daemon("ovsdb-server", f"{d}/conf.db", f"--remote=punix:{d}/db.sock", f"--unixctl={d}/db.ctl",
                    f"--log-file={d}/db.log", "-vconsole:off", OVS_RUNDIR=d)
        self.wait_for(lambda: os.path.exists(f"{d}/db.sock"), 10, "ovsdb-server")
        self.vsctl(number, "--no-wait", "init")
        self.daemon("ip", "netns", "exec", name, "ovs-vswitchd", f"unix:{d}/db.sock", f"--unixctl={d}/vsw.ctl",
                    f"--log-file={d}/vsw.log", "-vconsole:off", OVS_RUNDIR=d)
        self.wait_for(lambda: os.path.exists(f"{d}/vsw.ctl"), 15, "ovs-vswitchd")
        if number == 2:
            self.run("ip", "link", "add", "under", "netns", "bv1", "type", "veth", "peer", "name", "under", "netns", "bv2")
            for one in (1, 2):
                self.run("ip", "-n", f"bv{one}", "link", "set", "under", "up")
                self.vsctl(one, "add-br", "br-under", "--", "set", "bridge", "br-under", "datapath_type=netdev", "--",
                           "add-port", "br-under", "under")
                self.run("ip", "-n", f"bv{one}", "addr", "add", f"192.168.50.{one}/24", "dev", "br-under")
                self.run("ip", "-n", f"bv{one}", "link", "set", "br-under", "up")
        self.vsctl(number, "set", "open", ".", f"external-ids:system-id=ch{number}",
                   f"external-ids:ovn-remote=unix:{self.directory}/sb.sock", "external-ids:ovn-encap-type=geneve",
                   f"external-ids:ovn-encap-ip=192.168.50.{number}", "external-ids:ovn-bridge-datapath-type=netdev")
        self.daemon("ip", "netns", "exec", name, "ovn-controller", f"unix:{d}/db.sock", f"--log-file={d}/controller.log",
                    "-vconsole:off", OVS_RUNDIR=d, OVN_RUNDIR=d)
        self.wait_for(lambda: f"ch{number}" in self.run(
            "ovn-sbctl", f"--db=unix:{self.directory}/sb.sock", "--bare", "--columns=name", "list", "Chassis", check=False)
            + self.run("ovn-sbctl", f"--db=unix:{self.directory}/sb.sock", "--bare", "--columns=name", "list", "Chassis"), 20,
            "the chassis")

    def vsctl(self, number, *arguments):
        self.run("ovs-vsctl", f"--db=unix:{self.directory}/{number}/db.sock", "--timeout=30", *arguments)

    @staticmethod
    def port(switch, index):
        """A port with its addresses, port security and a rule."""
        name, mac = f"p{switch}-{index}", "02:00:%02x:%02x:%02x:01" % (switch, index >> 8, index & 255)
        address = f"{mac} 10.{switch}.{index // 250}.{index % 250 + 1}"
        return ["--", "lsp-add", f"sw{switch}", name, "--", "lsp-set-addresses", name, address, "--", "lsp-set-port-security",
                name, address, "--", "acl-add", f"sw{switch}", "to-lport", "1000",
                f'outport == "{name}" && ip4 && tcp.dst == 22', "allow-related"]

    def create(self, ports, switches, bound):
        """Seconds until so many ports are in force."""
        arguments = ["lr-add", "lr0"]
        for s in range(switches):
            arguments += ["--", "ls-add", f"sw{s}", "--", "lrp-add", "lr0", f"lr0-sw{s}", "02:ff:00:00:00:%02x" % s,
                          f"10.{s}.255.254/16", "--", "lsp-add", f"sw{s}", f"sw{s}-lr0", "--", "lsp-set-type", f"sw{s}-lr0",
                          "router", "--", "lsp-set-addresses", f"sw{s}-lr0", "router", "--", "lsp-set-options", f"sw{s}-lr0",
                          f"router-port=lr0-sw{s}", "--", "acl-add", f"sw{s}", "to-lport", "900", "ip4", "drop"]
        self.nb(*arguments)
        self.nb("--wait=hv", "sync")
        interfaces = ["--no-wait"]
        for number in range(bound):
            interfaces += ["--", "add-port", "br-int", f"i{number}", "--", "set", "interface", f"i{number}", "type=internal",
                           f"external_ids:iface-id=p{number % switches}-{number // switches}"]
        self.vsctl(1, *interfaces)
        self.wait_for(lambda: self.run("ip", "-n", "bv1", "link", "show", f"i{bound - 1}", check=False), 20, "the interfaces")
        began = clock()
        for s in range(switches):
            arguments = []
            for index in range(ports // switches):
                arguments += self.port(s, index)
            self.nb(*arguments[1:])
        self.nb("--wait=hv", "sync")
        return clock() - began

    def change(self, number):
        """Seconds until one more rule is in force."""
        began = clock()
        self.nb("--wait=hv", "acl-add", f"sw{number % 10}", "to-lport", "1001",
                f'outport == "p{number % 10}-1" && ip4 && tcp.dst == {8000 + number}', "allow-related")
        return clock() - began

    def add_port(self, number, ports):
        """Seconds until one more port is in force."""
        began = clock()
        self.nb("--wait=hv", *self.port(number % 10, ports + number)[1:])
        return clock() - began

    def moves(self, count):
        """Milliseconds of pings lost at once, one each millisecond, for each move of a port between the chassis."""
        places = {"bvs": (1, "ms", "02:00:00:00:aa:01", "10.200.0.1/24"), "bvm1": (1, "mm", "02:00:00:00:aa:02", "10.200.0.2/24"),
                  "bvm2": (2, "mm", "02:00:00:00:aa:02", "10.200.0.2/24")}
        self.nb("ls-add", "swm", "--", "lsp-add", "swm", "still", "--", "lsp-set-addresses", "still", "02:00:00:00:aa:01 10.200.0.1",
                "--", "lsp-add", "swm", "moving", "--", "lsp-set-addresses", "moving", "02:00:00:00:aa:02 10.200.0.2",
                "--", "lsp-set-options", "moving", "requested-chassis=ch1")
        for name, (chassis, port, mac, address) in places.items():
            self.namespace(name)
            self.run("ip", "link", "add", "eth0", "netns", name, "address", mac, "mtu", "1400", "type", "veth", "peer", "name", port,
                     "netns", f"bv{chassis}")
            self.run("ip", "-n", name, "addr", "add", address, "dev", "eth0")
            self.run("ip", "-n", name, "link", "set", "eth0", "up")
            self.run("ip", "-n", f"bv{chassis}", "link", "set", port, "up")
            # It does not complete partial checksums.
            self.run("ip", "netns", "exec", name, "ethtool", "-K", "eth0", "tx", "off")
            self.vsctl(chassis, "add-port", "br-int", port, "--", "set", "interface", port,
                       f"external_ids:iface-id={'still' if name == 'bvs' else 'moving'}")
        self.nb("--wait=hv", "sync")
        self.wait_for(lambda: " 0% packet loss" in self.run(
            "ip", "netns", "exec", "bvs", "ping", "-c", "1", "-W", "1", "10.200.0.2", check=False), 20, "the moving port")
        gaps = []
        for move in range(count):
            process = subprocess.Popen(["ip", "netns", "exec", "bvs", "ping", "-n", "-i", "0.001", "-c", "2500", "-W", "1", "10.200.0.2"],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            text = ""
            for line in process.stdout:
                text += line
                if "icmp_seq=300 " in line:
                    break
            self.nb("--wait=hv", "lsp-set-options", "moving", f"requested-chassis=ch{2 - move % 2}")
            text += process.communicate(timeout=60)[0]
            seen = [0] + [int(n) for n in re.findall(r"icmp_seq=(\d+)", text)] + [2501]
            gaps.append(max(b - a for a, b in zip(seen, seen[1:])) - 1)
        return gaps

    def stop(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()
