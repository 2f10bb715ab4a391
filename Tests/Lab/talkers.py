"""Echoes over many TCP connections at once, to see that all of them go on, and of datagrams, to see for how long nothing went.
talkers.py serve PORT | talkers.py talk ADDRESS PORT COUNT [ADDRESS PORT of the datagrams, as many flows]
The talker says what it is told: a line on its input ends a stretch, of which it prints the longest silence of any connection,
and of any flow of datagrams. A connection is silent for longer than its network, for up to two gaps and a pause: TCP asks again
after a pause, and then after twice that. Each is asked every EVERY milliseconds (10)."""
import os
import selectors
import socket
import sys
import time

if sys.argv[1] == "serve":
    poll = selectors.DefaultSelector()
    listener = socket.create_server(("", int(sys.argv[2])), backlog=256)
    poll.register(listener, selectors.EVENT_READ)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("", int(sys.argv[2])))
    poll.register(datagrams, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in poll.select():
            if key.fileobj is datagrams:
                try:
                    data, sender = datagrams.recvfrom(2048)
                    datagrams.sendto(data, sender)
                except OSError:
                    pass  # No way to there for now: the next one will tell.
                continue
            if key.fileobj is listener:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                poll.register(connection, selectors.EVENT_READ)
                continue
            try:
                data = key.fileobj.recv(65536)
                if data:
                    key.fileobj.sendall(data)
                    continue
            except OSError:
                pass
            poll.unregister(key.fileobj)
            key.fileobj.close()
else:
    address, port, count = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    poll = selectors.DefaultSelector()
    talkers, dead = {}, 0
    every = float(os.environ.get("EVERY", 10)) / 1e3
    for _ in range(count):
        connection = socket.create_connection((address, port), timeout=5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        talkers[connection] = {"heard": time.monotonic(), "worst": 0.0}
        poll.register(connection, selectors.EVENT_READ)
    flows = {}
    for _ in range(count if len(sys.argv) > 5 else 0):
        flow = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        flow.connect((sys.argv[5], int(sys.argv[6])))
        flow.setblocking(False)
        flows[flow] = {"heard": time.monotonic(), "worst": 0.0}
        poll.register(flow, selectors.EVENT_READ)
    poll.register(sys.stdin, selectors.EVENT_READ)
    print("connected", len(talkers), flush=True)
    due = time.monotonic()
    while True:
        now = time.monotonic()
        if now >= due:
            due = now + every
            for connection in list(talkers):
                try:
                    connection.send(b"x")
                except BlockingIOError:
                    pass
                except OSError:
                    dead += 1
                    poll.unregister(connection)
                    del talkers[connection]
            for flow in flows:
                try:
                    flow.send(b"x")
                except OSError:
                    pass  # What ICMP said of an earlier one: it is silence, and counts as that.
        for key, _ in poll.select(max(0, due - time.monotonic())):
            if key.fileobj is sys.stdin:
                if not sys.stdin.readline():
                    sys.exit(0)
                now = time.monotonic()
                said = "stretch alive %d dead %d" % (len(talkers), dead)
                for name, group in (("worst_ms", talkers), ("gap_ms", flows)):
                    if group:
                        said += " %s %d" % (name, max(max(t["worst"], now - t["heard"]) for t in group.values()) * 1e3)
                    for talker in group.values():
                        talker["worst"] = 0.0
                print(said, flush=True)
                continue
            now = time.monotonic()
            try:
                data = key.fileobj.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                if key.fileobj in flows:
                    continue
                data = b""
            if not data:
                dead += 1
                poll.unregister(key.fileobj)
                del talkers[key.fileobj]
                continue
            talker = flows.get(key.fileobj) or talkers[key.fileobj]
            talker["worst"] = max(talker["worst"], now - talker["heard"])
            talker["heard"] = now
