"""Echoes over one TCP connection, to see that it goes on.   echo.py serve | echo.py talk ADDRESS SECONDS"""
import socket
import sys
import time

if sys.argv[1] == "serve":
    listener = socket.create_server(("0.0.0.0", 8080))
    print("ready", flush=True)
    connection, _ = listener.accept()
    while data := connection.recv(65536):
        connection.sendall(data)
else:
    connection = socket.create_connection((sys.argv[2], 8080), timeout=5)
    print("connected", flush=True)
    end = time.monotonic() + float(sys.argv[3])
    count = worst = 0
    while time.monotonic() < end:
        began = time.monotonic()
        connection.sendall(b"x")
        if connection.recv(1) != b"x":
            sys.exit("the connection ended")
        worst = max(worst, time.monotonic() - began)
        count += 1
        time.sleep(0.002)
    print("echoes", count, "worst_ms", int(worst * 1e3))
