"""Echoes over many TCP connections at once, to see that all of them go on.
talkers.py serve PORT | talkers.py talk ADDRESS PORT COUNT
The talker says what it is told: a line on its input ends a stretch, of which it prints the longest silence of any connection."""
import selectors
import socket
import sys
import time

if sys.argv[1] == "serve":
    poll = selectors.DefaultSelector()
    listener = socket.create_server(("", int(sys.argv[2])), backlog=256)
    poll.register(listener, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in poll.select():
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
    # Many datagrams a second show a gap as it is; TCP's own pauses grow, so a connection is asked by a small timer of its own.
    address, port, count = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    poll = selectors.DefaultSelector()
    talkers, dead = {}, 0
    for _ in range(count):
        connection = socket.create_connection((address, port), timeout=5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        talkers[connection] = {"heard": time.monotonic(), "worst": 0.0}
        poll.register(connection, selectors.EVENT_READ)
    poll.register(sys.stdin, selectors.EVENT_READ)
    print("connected", len(talkers), flush=True)
    due = time.monotonic()
    while True:
        now = time.monotonic()
        if now >= due:
            due = now + 0.01
            for connection in list(talkers):
                try:
                    connection.send(b"x")
                except BlockingIOError:
                    pass
                except OSError:
                    dead += 1
                    poll.unregister(connection)
                    del talkers[connection]
        for key, _ in poll.select(max(0, due - time.monotonic())):
            if key.fileobj is sys.stdin:
                if not sys.stdin.readline():
                    sys.exit(0)
                now = time.monotonic()
                worst = max([max(t["worst"], now - t["heard"]) for t in talkers.values()], default=0)
                print("stretch alive", len(talkers), "dead", dead, "worst_ms", int(worst * 1e3), flush=True)
                for talker in talkers.values():
                    talker["worst"] = 0.0
                continue
            now = time.monotonic()
            try:
                data = key.fileobj.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                dead += 1
                poll.unregister(key.fileobj)
                del talkers[key.fileobj]
                continue
            talker = talkers[key.fileobj]
            talker["worst"] = max(talker["worst"], now - talker["heard"])
            talker["heard"] = now
