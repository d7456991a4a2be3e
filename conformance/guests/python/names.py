"""The resolver and the interfaces."""
import fcntl
import socket
import struct

from guest import behaviour, say


def look_up(name, flags=0):
    try:
        say(socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM, 0, flags)[0][4][0])
    except socket.gaierror as error:
        say("not found" if error.errno == socket.EAI_NONAME else f"error {error.errno}")


@behaviour
def resolve(_):
    look_up("echo.shop.internal")


@behaviour
def resolve_hosts(_):
    look_up("stock.shop.internal")


@behaviour
def resolve_search(_):
    look_up("echo")


@behaviour
def resolve_absent(_):
    look_up("absent.shop.internal")


@behaviour
def resolve_numeric(_):
    look_up("10.1.2.3", socket.AI_NUMERICHOST)


@behaviour
def interfaces(_):
    # SIOCGIFADDR (netdevice(7)): Python has no getifaddrs.
    assert "lo" in [name for _, name in socket.if_nameindex()]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any:
        answer = fcntl.ioctl(any, 0x8915, struct.pack("256s", b"lo"))
    say("lo", socket.inet_ntoa(answer[20:24]))
