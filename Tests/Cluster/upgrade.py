#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A cluster that is upgraded node by node while it is written to.

    upgrade.py BINARY [OLDER BINARY]

Without an older binary each node is restarted as it is. What was acknowledged is there, once, whatever ran where.
"""
import os
import sys
import tempfile
import threading
import time

from cluster import Cluster, wait_for

NODES = ("n1", "n2", "n3")


def main(new, old):
    with tempfile.TemporaryDirectory(prefix="selvage-upgrade-") as directory:
        c = Cluster(old, directory, first_port=17700)
        try:
            c.found("n1")
            for name in NODES[1:]:
                c.join(name, "n1")
            wait_for(lambda: sum(r == "voter" for r in c.roles("n1").values()) == 3, 20, "three voters")
            c.request("n1", "PUT", "/v1/bridges/t/b", {})
            written, unsure, stop = [], [], threading.Event()

            def write():
                number = 0
                while not stop.is_set():
                    number += 1
                    name = f"p{number}"
                    try:
                        status = c.request(NODES[number % 3], "PUT", f"/v1/ports/t/b/{name}", {}, timeout=8)[0]
                        (written if status in (200, 201) else unsure).append(name)
                    except OSError:
                        unsure.append(name)

            writer = threading.Thread(target=write)
            writer.start()
            c.binary = new
            for name in NODES:
                before = len(written)
                c.kill(name)
                c.start(name)
                wait_for(lambda: c.get(name, "/readyz")[0] == 200, 20, f"{name} is back")
                # Both versions together, with both kinds of leaders sooner or later.
                wait_for(lambda: len(written) > before + 50, 20, "writes go on")
                if name != NODES[-1]:
                    c.ask(name, "cluster", "transfer", name)
                    wait_for(lambda: len(written) > before + 100, 20, "writes go on under the new leader")
            stop.set()
            writer.join()
            for name in NODES:
                wait_for(lambda: c.get(name, "/readyz")[0] == 200, 20, f"{name} has all")
                ports = set()
                after = ""
                while True:
                    page = c.get(name, f"/v1/ports?limit=5000{after}")[1]
                    ports.update(item["name"].rsplit("/", 1)[1] for item in page["items"])
                    if not page.get("next"):
                        break
                    after = f"&after={page['next']}"
                lost = set(written) - ports
                assert not lost, f"{name} has lost {sorted(lost)[:5]} of {len(written)}"
                assert ports <= set(written) | set(unsure), "there is what nobody wrote"
            alarms = c.status("n1").get("alarms", [])
            assert not alarms, f"alarms: {alarms}"
            print(f"{len(written)} acknowledged writes, {len(unsure)} unsure, while all nodes were replaced: none lost")
            print("1 passed, 0 failed")
        finally:
            c.stop()


main(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2] if len(sys.argv) > 2 else sys.argv[1]))
