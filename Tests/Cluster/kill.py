#!/usr/bin/python3
"""Nodes are killed at random, over and over, while clients write; what was acknowledged must be there, once.

    kill.py BINARY [--writes 2000] [--kills 12] [--clients 8] [--seed N]
"""
import argparse
import http.client
import json
import os
import random
import sys
import tempfile
import threading
import time

from cluster import Cluster, UnixConnection, wait_for

parser = argparse.ArgumentParser()
parser.add_argument("binary")
parser.add_argument("--writes", type=int, default=2000)
parser.add_argument("--kills", type=int, default=12)
parser.add_argument("--clients", type=int, default=8)
parser.add_argument("--seed", type=int, default=int(time.time()))
options = parser.parse_args()
draw = random.Random(options.seed)
print(f"seed {options.seed}")

NAMES = ("n1", "n2", "n3")
lock = threading.Lock()
acknowledged, unsure, over = {}, set(), threading.Event()
next_number = [0]
kills = 0


def client(cluster, number):
    """Creates ports that are not there: a second creation of one is refused, so that what is done twice shows."""
    mine = random.Random(options.seed + number)
    while not over.is_set():
        with lock:
            if len(acknowledged) >= options.writes and kills >= options.kills:
                over.set()
                return
            next_number[0] += 1
            name = f"p{next_number[0]}"
        connection = UnixConnection(cluster.socket(mine.choice(NAMES)), 20)
        try:
            connection.request("POST", "/v1/ports", json.dumps({"name": f"t/b/{name}"}), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            body = json.loads(answer.read())
            with lock:
                if answer.status == 201:
                    acknowledged[name] = body["created"]
                elif answer.status == 409:
                    raise SystemExit(f"{name} was there before it was made: it was done twice")
                else:
                    unsure.add(name)
        except (OSError, http.client.HTTPException, ValueError):
            with lock:
                unsure.add(name)
            time.sleep(0.02)
        finally:
            connection.close()


def everything(cluster, node):
    found, after = {}, ""
    while True:
        status, page = cluster.get(node, "/v1/ports?limit=5000" + (f"&after={after}" if after else ""))
        assert status == 200, page
        for port in page["items"]:
            found[port["name"].split("/")[-1]] = port
        after = page.get("next")
        if not after:
            return found


with tempfile.TemporaryDirectory(prefix="selvage-kill-") as directory:
    cluster = Cluster(os.path.abspath(options.binary), directory, first_port=17700)
    try:
        cluster.found("n1")
        cluster.join("n2", "n1")
        cluster.join("n3", "n1")
        wait_for(lambda: list(cluster.roles("n1").values()) == ["voter"] * 3, 20, "three voters")
        assert cluster.request("n1", "PUT", "/v1/bridges/t/b", {})[0] == 201
        threads = [threading.Thread(target=client, args=(cluster, n)) for n in range(options.clients)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        while not over.is_set():
            time.sleep(draw.uniform(0.3, 2.5))
            # Mostly one, now and then all at once.
            victims = NAMES if draw.random() < 0.1 else (draw.choice(NAMES),)
            for name in victims:
                cluster.kill(name)
            kills += len(victims)
            time.sleep(draw.uniform(0, 1.5))
            for name in victims:
                cluster.start(name)
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        wait_for(lambda: all(cluster.get(n, "/readyz")[0] == 200 for n in NAMES), 30, "all are ready")
        states = {name: everything(cluster, name) for name in NAMES}
        for name, found in states.items():
            lost = [port for port in acknowledged if port not in found]
            assert not lost, f"{name} has lost {len(lost)} acknowledged writes: {lost[:5]}"
            moved = [port for port, created in acknowledged.items() if found[port]["created"] != created]
            assert not moved, f"{name} has made again what was made: {moved[:5]}"
            strangers = set(found) - set(acknowledged) - unsure
            assert not strangers, f"{name} has what nobody asked for: {sorted(strangers)[:5]}"
        assert states["n1"] == states["n2"] == states["n3"], "the nodes have different states"
        keys = [port["tunnelKey"] for port in states["n1"].values()]
        assert len(set(keys)) == len(keys), "two ports have one tunnel key"
        digests = wait_for(lambda: len({cluster.status(n)["digest"] for n in NAMES}) == 1, 20, "equal sums")
        print(f"{len(acknowledged)} acknowledged writes, {kills} kills, {len(unsure)} unsure, {took:.0f} s: none lost, none twice")
        print("1 passed, 0 failed")
    except BaseException:
        for name in NAMES:
            path = f"{directory}/{name}.log"
            if os.path.exists(path):
                print(f"== {name}\n" + "".join(open(path).readlines()[-15:]), file=sys.stderr)
        raise
    finally:
        over.set()
        cluster.stop()
