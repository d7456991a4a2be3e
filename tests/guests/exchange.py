"""Sends N bytes to the echo at HOST:PORT while reading them back; half-closes, reads to the end, compares checksums."""
import hashlib, os, socket, sys, threading

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
block = os.urandom(1 << 20)
connection = socket.create_connection((host, port), timeout=60)

def send():
    left = count
    while left:
        part = block[:left]
        connection.sendall(part)
        sent.update(part)
        left -= len(part)
    connection.shutdown(socket.SHUT_WR)

sent, received, total = hashlib.sha256(), hashlib.sha256(), 0
sender = threading.Thread(target=send)
sender.start()
while more := connection.recv(1 << 16):
    received.update(more)
    total += len(more)
sender.join()
print(total, "same" if sent.digest() == received.digest() else "different")
