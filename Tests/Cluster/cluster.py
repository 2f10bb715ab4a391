"""Real nodes on this machine, each a process with files of its own, asked as anybody would: by the command and over HTTP."""
import http.client
import json
import os
import socket
import subprocess
import time


class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(f"exit {code}: {text}")
        self.code, self.text = code, text


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while True:
        try:
            value = condition()
            if value:
                return value
        except (OSError, Refused, StopIteration, http.client.HTTPException):
            pass
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {seconds} s")
        time.sleep(0.02)


class Cluster:
    def __init__(self, binary, directory, first_port=17500):
        self.binary, self.directory, self.processes = binary, directory, {}
        self.ports, self.next_port = {}, first_port

    def socket(self, name):
        return f"{self.directory}/{name}.sock"

    def data(self, name):
        return f"{self.directory}/{name}"

    def log(self, name):
        return open(f"{self.directory}/{name}.log").read()

    def run(self, *arguments, timeout=60):
        done = subprocess.run([self.binary, *arguments], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Refused(done.returncode, done.stderr + done.stdout)
        return done.stdout.strip()

    def ask(self, node, *arguments):
        return self.run(*arguments, "--socket", self.socket(node))

    def place(self, name):
        if name not in self.ports:
            self.ports[name] = (self.next_port, self.next_port + 1)
            self.next_port += 2
        peer, api = self.ports[name]
        return ["--name", name, "--address", "127.0.0.1", "--tunnel-address", "none", "--peer-port", str(peer),
                "--api-port", str(api), "--data", self.data(name)]

    def found(self, name, *more):
        self.run("cluster", "init", *self.place(name), *more)
        self.start(name)

    def join(self, name, sponsor, *token_options):
        token = self.ask(sponsor, "cluster", "token", *token_options)
        self.run("cluster", "join", token, *self.place(name))
        self.start(name)

    def start(self, name, *more, wait=True):
        log = open(f"{self.directory}/{name}.log", "a")
        self.processes[name] = subprocess.Popen(
            [self.binary, "node", "--data", self.data(name), "--socket", self.socket(name), "--datapath", "userspace", *more],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        if wait:
            wait_for(lambda: self.get(name, "/healthz")[0] == 200, 20, f"{name} answers")

    def kill(self, name):
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self):
        for name in list(self.processes):
            self.kill(name)

    def request(self, name, method, path, body=None, timeout=15):
        connection = UnixConnection(self.socket(name), timeout)
        try:
            data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            answer = connection.getresponse()
            text = answer.read()
            kind = answer.headers.get("Content-Type", "")
            return answer.status, json.loads(text) if "json" in kind else text
        finally:
            connection.close()

    def get(self, name, path):
        return self.request(name, "GET", path)

    def status(self, name):
        return self.get(name, "/v1/cluster")[1]

    def leader(self):
        for name in self.processes:
            try:
                leader = self.status(name).get("leader")
                if leader in self.processes:
                    return leader
            except (OSError, http.client.HTTPException):
                continue
        return None

    def roles(self, name):
        return {node["name"]: node["role"] for node in self.status(name)["nodes"]}
