#!/usr/bin/python3
"""Acknowledged writes of a cluster of three nodes on this machine: how many a second, how long each takes, and how long the
next one takes after the leader was killed. Clients are connections that each wait for their answer.

    writes.py BINARY [--seconds 3] [--runs 3]
"""
import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

clock = time.perf_counter


class Client(asyncio.Protocol):
    """One connection over which one request at a time is under way."""

    def __init__(self, answered):
        self.answered, self.buffer, self.transport, self.waiting = answered, b"", None, None

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        self.transport = None
        if self.waiting:
            began, self.waiting = self.waiting, None
            self.answered(self, began, 0)

    def send(self, request):
        if self.transport is None:
            return False
        self.waiting = clock()
        self.transport.write(request)
        return True

    def data_received(self, data):
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15:head.find(b"\r", at) if head.find(b"\r", at) > 0 else len(head)])
        if len(self.buffer) < end + 4 + length:
            return
        status = int(head[9:12])
        self.buffer = self.buffer[end + 4 + length:]
        began, self.waiting = self.waiting, None
        self.answered(self, began, status)


DEVICE = "acme-production/web-frontend"


def put(number):
    """A port, as large as they are: its MAC and addresses change each time."""
    port, turn = number % 512, number // 512 % 250 + 1
    body = ('{"mac":"0e:00:00:%02x:%02x:%02x","addresses":["10.%d.%d.%d/16","fd00::%x:%x/64"]}' % (
        port >> 8, port & 255, turn, port >> 8, port & 255, turn, port, turn)).encode()
    return (b"PUT /v1/ports/%s/vm-%d HTTP/1.1\r\nHost: n\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % (DEVICE.encode(), port, len(body))) + body


class Cluster:
    """Three nodes on loopback with files of their own."""

    def __init__(self, binary, directory):
        self.binary, self.directory, self.processes = binary, directory, {}
        for name in ("n1", "n2", "n3"):
            os.makedirs(f"{directory}/{name}", exist_ok=True)

    def cli(self, *arguments, node="n1"):
        return subprocess.run([self.binary, *arguments, "--socket", self.socket(node)], check=True, capture_output=True,
                              text=True, timeout=60).stdout.strip()

    def socket(self, name):
        return f"{self.directory}/{name}.sock"

    def start(self, name):
        log = open(f"{self.directory}/{name}.log", "a")
        self.processes[name] = subprocess.Popen(
            [self.binary, "node", "--data", f"{self.directory}/{name}/data", "--socket", self.socket(name), "--datapath",
             "userspace"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.wait(lambda: subprocess.run([self.binary, "topology", "--socket", self.socket(name)], capture_output=True,
                                         timeout=10).returncode == 0)

    @staticmethod
    def wait(condition, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError("it did not happen in time")
            time.sleep(0.02)

    def grow(self):
        ports = iter(range(17420, 17450))
        for name in ("n1", "n2", "n3"):
            where = ["--name", name, "--address", "127.0.0.1", "--tunnel-address", "none", "--peer-port", str(next(ports)),
                     "--api-port", str(next(ports)), "--data", f"{self.directory}/{name}/data"]
            if name == "n1":
                subprocess.run([self.binary, "cluster", "init", *where], check=True, capture_output=True)
            else:
                token = self.cli("cluster", "token")
                subprocess.run([self.binary, "cluster", "join", token, *where], check=True, capture_output=True)
            self.start(name)
        self.wait(lambda: sum(n["role"] == "voter" for n in self.nodes()) == 3)
        manifest = f"{self.directory}/bench.yaml"
        open(manifest, "w").write("tenants: { %s: { bridges: { %s: {} } } }\n" % tuple(DEVICE.split("/")))
        self.cli("apply", manifest)

    def nodes(self, node="n1"):
        return json.loads(self.cli("cluster", "list", "-o", "json", node=node))

    def leader(self):
        return next(n["name"] for n in self.nodes() if n["isLeader"])

    def rss_mb(self):
        total = []
        for process in self.processes.values():
            for line in open(f"/proc/{process.pid}/status"):
                if line.startswith("VmRSS"):
                    total.append(int(line.split()[1]) / 1024)
        return max(total)

    def stop(self):
        for process in self.processes.values():
            process.kill()
            process.wait()


async def load(path, clients, seconds):
    loop = asyncio.get_running_loop()
    times, failures, number, end = [], [0], [0], clock() + seconds
    done = loop.create_future()
    running = [clients]

    def answered(client, began, status):
        now = clock()
        if status in (200, 201):
            times.append(now - began)
        else:
            failures[0] += 1
        if now < end:
            number[0] += 1
            if client.send(put(number[0])):
                return
        running[0] -= 1
        if running[0] == 0 and not done.done():
            done.set_result(None)

    connections = [(await loop.create_unix_connection(lambda: Client(answered), path))[1] for _ in range(clients)]
    began = clock()
    for client in connections:
        number[0] += 1
        client.send(put(number[0]))
    await done
    took = clock() - began
    for client in connections:
        if client.transport:
            client.transport.close()
    times.sort()
    return len(times) / took, times[len(times) // 2] * 1000, times[(len(times) - 1) * 99 // 100] * 1000, failures[0]


async def failover(cluster):
    """Seconds from the leader's end to the next acknowledged write at a survivor."""
    leader = cluster.leader()
    survivor = next(n for n in cluster.processes if n != leader)
    loop = asyncio.get_running_loop()
    process = cluster.processes.pop(leader)
    result = loop.create_future()

    def answered(client, began, status):
        if status in (200, 201):
            if not result.done():
                result.set_result(clock())
        elif not client.send(put(7)):
            result.set_exception(RuntimeError("the survivor ended the connection"))

    client = (await loop.create_unix_connection(lambda: Client(answered), cluster.socket(survivor)))[1]
    process.send_signal(signal.SIGKILL)
    began = clock()
    process.wait()
    client.send(put(7))
    took = await asyncio.wait_for(result, 30) - began
    cluster.start(leader)
    await asyncio.sleep(2)
    return took


def measure(binary, seconds, runs):
    with tempfile.TemporaryDirectory(prefix="selvage-writes-") as directory:
        cluster = Cluster(binary, directory)
        try:
            cluster.grow()
            result = {}
            for clients in (1, 16, 64):
                rates, medians, p99s = [], [], []
                for _ in range(runs):
                    rate, median, p99, failed = asyncio.run(load(cluster.socket(cluster.leader()), clients, seconds))
                    if failed:
                        print(f"{failed} writes failed", file=sys.stderr)
                    rates.append(rate), medians.append(median), p99s.append(p99)
                result[f"writes_per_s_{clients}"] = round(statistics.median(rates))
                result[f"p50_ms_{clients}"] = round(statistics.median(medians), 2)
                result[f"p99_ms_{clients}"] = round(statistics.median(p99s), 2)
            result["failover_s"] = round(statistics.median(asyncio.run(failover(cluster)) for _ in range(runs)), 3)
            result["rss_mb"] = round(cluster.rss_mb(), 1)
            return result
        finally:
            cluster.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(json.dumps(measure(options.binary, options.seconds, options.runs)))
