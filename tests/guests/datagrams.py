# Answers each datagram with `local`, who sent it as this program sees it, and what it was; prints the same.
# usage: datagrams.py PORT [ADDRESS]
import socket
import sys

address = sys.argv[2] if len(sys.argv) > 2 else "::"
server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
if ":" in address:
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
server.bind((address, int(sys.argv[1])))
# A client's own socket: its port is nobody's in the pod.
other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
other.bind(("", 0))
print("own", other.getsockname()[1], flush=True)
while True:
    data, client = server.recvfrom(65536)
    who = "%s:%d" % (client[0].removeprefix("::ffff:"), client[1])
    print("got", who, len(data), flush=True)
    server.sendto(b"local %s %s" % (who.encode(), data), client)
