# SPDX-License-Identifier: Apache-2.0
"""conntrackd in its FT-FW mode: two namespaces that replicate their kernels' connections."""
import os, shutil, subprocess, time

CONFIGURATION = """
Sync {{
    Mode FTFW {{ ResendQueueSize 262144
        DisableExternalCache On
        StartupResync Off }}
    UDP {{ IPv4_address {own}
        IPv4_Destination_Address {other}
        Port 3780
        Interface sync
        SndSocketBuffer 8388608
        RcvSocketBuffer 8388608
        Checksum on }}
}}
General {{
    HashSize 65536
    HashLimit 524288
    Syslog off
    LogFile {directory}/{own}.log
    LockFile {directory}/{own}.lock
    UNIX {{ Path {directory}/{own}.ctl }}
    NetlinkBufferSize 8388608
    NetlinkBufferSizeMaxGrowth 33554432
    NetlinkOverrunResync Off
    NetlinkEventsReliable On
    EventIterationLimit 200
    Filter From Userspace {{ Protocol Accept {{ TCP }}
        Address Ignore {{ IPv4_address 127.0.0.1 }} }}
}}
"""


class Conntrackd:
    @staticmethod
    def missing():
        return next((tool for tool in ("conntrackd", "conntrack") if not shutil.which(tool)), None)

    def __init__(self, namespace, run, daemon, wait_for, tag, work):
        self.run, self.wait_for = run, wait_for
        self.names = [f"{tag}ct{side}" for side in "ab"]
        self.directory = os.path.join(work, "ct")
        os.makedirs(self.directory)
        for name in self.names:
            namespace(name)
        run("ip", "link", "add", "sync", "netns", self.names[0], "type", "veth", "peer", "name", "sync", "netns",
            self.names[1])
        addresses = ["172.31.9.1", "172.31.9.2"]
        for own, other, name in zip(addresses, reversed(addresses), self.names):
            run("ip", "-n", name, "addr", "add", f"{own}/24", "dev", "sync")
            run("ip", "-n", name, "link", "set", "sync", "up")
            self.inside(name, "sysctl", "-qw", "net.netfilter.nf_conntrack_events=1", check=False)
            path = os.path.join(self.directory, own)
            with open(path, "w") as out:
                out.write(CONFIGURATION.format(own=own, other=other, directory=self.directory))
            self.log = open(path + ".out", "w")
            daemon(["ip", "netns", "exec", name, "conntrackd", "-C", path], self.log)
            wait_for(lambda: subprocess.run(["conntrackd", "-C", path, "-s"], capture_output=True).returncode == 0, 10,
                     "conntrackd")

    def inside(self, name, *command, **extra):
        return self.run("ip", "netns", "exec", name, *command, **extra)

    def count(self, name):
        return int(self.inside(name, "cat", "/proc/sys/net/netfilter/nf_conntrack_count"))

    def rate(self, states):
        """New connections a second, from the first that is made until the other kernel has all of them."""
        path = os.path.join(self.directory, "states")
        with open(path, "w") as out:
            for number in range(1, states + 1):
                out.write(f"-I -p tcp -s 10.{number >> 16 & 63}.{number >> 8 & 255}.{number & 255} -d 10.99.0.1 "
                          f"--sport {1024 + number % 60000} --dport 80 --state ESTABLISHED -u SEEN_REPLY,ASSURED -t 600\n")
        began = time.monotonic()
        self.inside(self.names[0], "conntrack", "--load-file", path, check=False)
        self.wait_for(lambda: self.count(self.names[1]) >= states * 0.999, 60, "all connections")
        took = time.monotonic() - began
        for name in self.names:
            self.inside(name, "conntrack", "-F", check=False)
        self.wait_for(lambda: self.count(self.names[1]) == 0, 30, "an empty table")
        return states / took
