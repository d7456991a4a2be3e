# A TCP server that is not HTTP: says its greeting first, if it has one, and then sends back what it receives.
# usage: talk.py PORT [GREETING]
import socket
import sys
import threading

greeting = sys.argv[2].encode() if len(sys.argv) > 2 else b""


def serve(connection):
    try:
        connection.sendall(greeting)
        while received := connection.recv(1 << 18):
            connection.sendall(received)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    connection.close()


listener = socket.create_server(("0.0.0.0", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
