# SPDX-License-Identifier: Apache-2.0
"""Three etcd members on loopback, the peer of our replicated store. Their client is `selvage-bench etcd`."""
import json
import os
import shutil
import subprocess
import time

CLIENT, PEER = 12370, 12390


class Etcd:
    def __init__(self, tool, directory):
        self.tool, self.directory, self.members = tool, directory, {}
        os.makedirs(directory, exist_ok=True)

    @staticmethod
    def missing():
        return [name for name in ("etcd", "etcdctl") if not shutil.which(name)]

    def start(self, index, state="new"):
        urls = ",".join(f"m{i}=http://127.0.0.1:{PEER + i}" for i in range(3))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
        self.members[index] = subprocess.Popen(
            ["etcd", "--name", f"m{index}", "--data-dir", f"{self.directory}/m{index}",
             "--listen-client-urls", f"http://127.0.0.1:{CLIENT + index}",
             "--advertise-client-urls", f"http://127.0.0.1:{CLIENT + index}",
             "--listen-peer-urls", f"http://127.0.0.1:{PEER + index}",
             "--initial-advertise-peer-urls", f"http://127.0.0.1:{PEER + index}",
             "--initial-cluster", urls, "--initial-cluster-state", state, "--initial-cluster-token", "bench",
             "--heartbeat-interval", "100", "--election-timeout", "1000", "--logger", "zap", "--log-level", "error"],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def grow(self):
        for index in range(3):
            self.start(index)
        self.leader()

    def leader(self, seconds=30):
        end = time.monotonic() + seconds
        endpoints = ",".join(f"127.0.0.1:{CLIENT + i}" for i in range(3))
        while time.monotonic() < end:
            done = subprocess.run(["etcdctl", "--endpoints", endpoints, "endpoint", "status", "-w", "json"],
                                  capture_output=True, env=dict(os.environ, ETCDCTL_API="3"))
            try:
                members = json.loads(done.stdout)
            except ValueError:
                members = []
            if len(members) == 3:
                for member in members:
                    status = member["Status"]
                    if status.get("leader") and status["leader"] == status["header"]["member_id"]:
                        return int(member["Endpoint"].rsplit(":", 1)[1]) - CLIENT
            time.sleep(0.1)
        raise RuntimeError("etcd has no leader")

    def load(self, clients, seconds):
        return self.client(CLIENT + self.leader(), "--clients", clients, "--seconds", seconds)

    def failover(self):
        """Seconds from the leader's end to the next acknowledged put at a survivor."""
        leader = self.leader()
        member = self.members.pop(leader)
        took = self.client(CLIENT + (leader + 1) % 3, "--kill", member.pid)["failover_s"]
        member.wait()
        self.start(leader, "existing")
        return took

    def client(self, port, *options):
        done = subprocess.run([self.tool, "etcd", "--port", str(port), *map(str, options)], capture_output=True, text=True,
                              timeout=90)
        if done.returncode:
            raise RuntimeError(f"the client of etcd: {done.stderr[-300:]}")
        return json.loads(done.stdout)

    def stop(self):
        for member in self.members.values():
            member.kill()
            member.wait()
