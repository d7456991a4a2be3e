# Daemonises (setsid, two forks, nothing open), and writes what it saw then to the FIFO in the first argument.
import os
import socket
import sys

if os.fork():
    sys.exit()
os.setsid()
if os.fork():
    os._exit(0)
os.chdir("/")
null = os.open("/dev/null", os.O_RDWR)
for number in range(3):
    os.dup2(null, number)
line = open("/data/conformance/text").readline().rstrip()
connection = socket.create_connection(("10.77.0.40", 7000))
connection.sendall(b"ping")
with open(sys.argv[1], "w") as out:
    print(f"{line}, {connection.recv(4).decode()}", file=out)
