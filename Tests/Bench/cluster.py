# SPDX-License-Identifier: Apache-2.0
"""A cluster of three nodes on this machine, its clients over HTTP, and what it takes to write, to fail over, to apply and to
hold many ports. Clients are connections that each wait for their answer."""
import asyncio
import json
import os
import signal
import subprocess
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

    def __init__(self, binary, directory, count=3, namespace=None):
        self.binary, self.directory, self.processes, self.count = binary, directory, {}, count
        self.prefix = ["ip", "netns", "exec", namespace] if namespace else []
        for name in ("n1", "n2", "n3")[:self.count]:
            os.makedirs(f"{directory}/{name}", exist_ok=True)

    def cli(self, *arguments, node="n1"):
        done = subprocess.run([self.binary, *arguments, "--socket", self.socket(node)], capture_output=True, text=True,
                              timeout=120)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stdout[-300:]}{done.stderr[-300:]}")
        return done.stdout.strip()

    def socket(self, name):
        return f"{self.directory}/{name}.sock"

    def start(self, name):
        log = open(f"{self.directory}/{name}.log", "a")
        self.processes[name] = subprocess.Popen(
            [*self.prefix, self.binary, "node", "--data", f"{self.directory}/{name}/data", "--socket", self.socket(name), "--datapath",
             "userspace"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.wait(lambda: subprocess.run([self.binary, "cluster", "status", "--socket", self.socket(name)], capture_output=True,
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
        for name in ("n1", "n2", "n3")[:self.count]:
            where = ["--name", name, "--address", "127.0.0.1", "--tunnel-address", "none", "--peer-port", str(next(ports)),
                     "--api-port", str(next(ports)), "--data", f"{self.directory}/{name}/data"]
            if name == "n1":
                subprocess.run([*self.prefix, self.binary, "cluster", "init", *where], check=True, capture_output=True)
            else:
                token = self.cli("cluster", "token")
                subprocess.run([*self.prefix, self.binary, "cluster", "join", token, *where], check=True, capture_output=True)
            self.start(name)
        self.wait(lambda: sum(n["role"] == "voter" for n in self.nodes()) == self.count)
        self.apply("tenants: { %s: { bridges: { %s: {} } } }\n" % tuple(DEVICE.split("/")))

    def apply(self, text, *options):
        """Seconds that `selvage apply` takes, its start and end included."""
        manifest = f"{self.directory}/bench.yaml"
        open(manifest, "w").write(text)
        began = clock()
        self.cli("apply", manifest, "--keep", *options)
        return clock() - began

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
    cluster.wait(lambda: all(n["status"] == "up" for n in cluster.nodes(survivor)))
    return took


SENDER = """
import socket, struct, sys
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sender.bind(("j0", 0))
for number in range(1, int(sys.argv[1])):
    frame = bytes.fromhex(sys.argv[2 + number].replace(":", "")) + bytes.fromhex(sys.argv[2].replace(":", ""))
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, bytes([10, 0, 0, 1]), bytes([10, 0, 0, number + 1]))
    sender.send(frame + b"\\x08\\x00" + ip + struct.pack("!HHHH", 1, 2, 8, 0) + bytes(18))
"""


def wait_cost(cluster, bound, count):
    """Milliseconds that a change takes until all nodes forward by it, and until it is committed, `count` changes of each. The
    change is of a station to which n1 has a flow, on a bridge with `bound` ports of n1 that all have one."""
    subprocess.run([*cluster.prefix, "python3", "-c", SENDER, str(bound), *(mac(n) for n in range(bound))], check=True)
    cluster.wait(lambda: cluster.cli("flows").count("\n") >= bound - 1)

    def change(number, waits):
        body = ('{"host":"n1","interface":"i1","mac":"%s","addresses":["10.0.0.2/16","10.0.240.%d/16"]}'
                % (mac(1), number % 250 + 1)).encode()
        return (b"PUT /v1/ports/t/b0/p1%s HTTP/1.1\r\nHost: n\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                % (b"?wait=true" if waits else b"", len(body))) + body

    async def run():
        loop = asyncio.get_running_loop()
        answer = [None]
        client = (await loop.create_unix_connection(
            lambda: Client(lambda client, began, status: answer[0].set_result((clock() - began, status))),
            cluster.socket(cluster.leader())))[1]
        times = {True: [], False: []}
        for number in range(2 * count):
            waits = number % 2 == 0
            answer[0] = loop.create_future()
            client.send(change(number, waits))
            took, status = await asyncio.wait_for(answer[0], 20)
            if status not in (200, 201):
                raise RuntimeError(f"a change was answered {status}")
            times[waits].append(took * 1000)
            # The next one is not part of a storm.
            await asyncio.sleep(0.06)
        return times
    times = asyncio.run(run())
    middle = lambda values: sorted(values)[len(values) // 2]
    return middle(times[True]), middle(times[False])


def drawing(bridges, ports, bound):
    """A router, bridges and ports on them; the first `bound` ports have an interface of n1."""
    lines = ["tenants:", "  t:", "    routers:", "      r:", "        links:"]
    for b in range(bridges):
        lines.append(f"          - {{ bridge: b{b}, address: 10.{b}.255.254/16 }}")
    lines.append("    bridges:")
    number = 0
    for b in range(bridges):
        lines += [f"      b{b}:", "        ports:"]
        for p in range(ports // bridges):
            where = f"host: n1, interface: i{number}, " if number < bound else ""
            lines.append(f"          p{p}: {{ {where}mac: \"{mac(number)}\", address: 10.{b}.{p // 250}.{p % 250 + 1}/16 }}")
            number += 1
    return "\n".join(lines) + "\n"


def mac(number):
    return "0e:01:%02x:%02x:%02x:01" % (number >> 16 & 255, number >> 8 & 255, number & 255)


def one_port(index):
    return (f"tenants: {{ t: {{ bridges: {{ b{index % 10}: {{ ports: {{ extra{index}: {{ mac: \"0e:02:00:00:00:{index:02x}\", "
            f"address: 10.{index % 10}.200.{index + 1}/16 }} }} }} }} }} }}\n")


def many_ports(binary, directory, count):
    """A node with so many ports: seconds of a snapshot and of a restart until it is ready, megabytes resident."""
    cluster = Cluster(binary, directory, count=1)
    try:
        cluster.grow()
        bridges = count // 500
        for first in range(0, bridges, 10):
            lines = ["tenants:", "  t:", "    bridges:"]
            for b in range(first, first + 10):
                lines += [f"      b{b}:", "        ports:"]
                for p in range(500):
                    number = b * 500 + p
                    lines.append(f"          p{p}: {{ mac: \"{mac(number)}\", address: 10.{b % 250}.{p // 250}.{p % 250 + 1}/16 }}")
            cluster.apply("\n".join(lines) + "\n")
        created = cluster.rss_mb()
        change = min(cluster.apply("tenants: { t: { bridges: { b7: { ports: { extra%d: { mac: \"0e:02:00:00:00:%02x\" } } } } } }\n"
                                   % (i, i), "--wait") for i in range(5))
        snapshots = []
        for index in range(3):
            began = clock()
            cluster.cli("cluster", "snapshot", "save", f"{directory}/s{index}")
            snapshots.append(clock() - began)
        starts = []
        for _ in range(3):
            process = cluster.processes.pop("n1")
            process.kill()
            process.wait()
            began = clock()
            cluster.start("n1")
            starts.append(clock() - began)
        return {"snapshot": sorted(snapshots)[1], "restart": sorted(starts)[1], "rss": max(created, cluster.rss_mb()),
                "change": change}
    finally:
        cluster.stop()
