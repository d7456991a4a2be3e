# Asks a name server for a name from many sockets, one after the other, each closed when it is answered.
# usage: questions.py SERVER NAME COUNT
import socket
import struct
import sys
import time

server, name, count = (sys.argv[1], 53), sys.argv[2], int(sys.argv[3])
labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))


def ask(number):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(5)
        for _ in range(3):
            asking.sendto(struct.pack("!6H", number & 0xFFFF, 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1", server)
            try:
                return asking.recv(4096)
            except TimeoutError:
                continue
    sys.exit(f"question {number} was not answered")


addresses = set()
for number in range(count):
    addresses.add(socket.inet_ntoa(ask(number)[-4:]))
    # No more at once than a program that does something between its questions.
    if number % 1000 == 999:
        time.sleep(3)
print(*addresses)
