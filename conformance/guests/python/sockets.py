"""Outgoing connections and datagrams."""
import asyncio
import os
import select
import signal
import socket
import threading

from guest import CLOSED, ECHO, ECHO_SIX, FILES, POD, POD_PORT, PORT, behaviour, name_of, say, shown


def dial():
    return socket.create_connection((ECHO, PORT))


def talk(connection, text=b"ping"):
    connection.sendall(text)
    back = b""
    while len(back) < len(text):
        piece = connection.recv(len(text) - len(back))
        if not piece:
            return "end too early"
        back += piece
    return back.decode()


def converse(connection):
    with connection:
        say("peer", shown(connection.getpeername()))
        say(talk(connection))
        connection.shutdown(socket.SHUT_WR)
        say("more" if connection.recv(1) else "end")


@behaviour
def child(_):
    try:
        say("child:", open(FILES + "text").readline().rstrip())
        with dial() as connection:
            say("child:", talk(connection))
    except OSError as error:
        say("child:", name_of(error))


@behaviour
def connect(_):
    connection = socket.socket()
    connection.connect((ECHO, PORT))
    converse(connection)


@behaviour
def connect_six(_):
    connection = socket.socket(socket.AF_INET6)
    connection.connect((ECHO_SIX, PORT))
    converse(connection)


async def by_asyncio(host, port, **how):
    reader, writer = await asyncio.open_connection(host, port, **how)
    say("peer", shown(writer.get_extra_info("peername")))
    writer.write(b"ping")
    say((await reader.readexactly(4)).decode())
    writer.write_eof()
    say("more" if await reader.read(1) else "end")
    writer.close()


@behaviour
def connect_nonblocking(_):
    asyncio.run(by_asyncio(ECHO, PORT))


@behaviour
def connect_name(_):
    converse(socket.create_connection(("echo.shop.internal", PORT)))


@behaviour
def happy_eyeballs(_):
    asyncio.run(by_asyncio("dual.shop.internal", PORT, happy_eyeballs_delay=0.25))


@behaviour
def refused(_):
    try:
        socket.create_connection((ECHO, CLOSED))
        say("connected")
    except OSError as error:
        say(name_of(error))


@behaviour
def refused_nonblocking(_):
    try:
        asyncio.run(by_asyncio(ECHO, CLOSED))
    except OSError as error:
        say(name_of(error))


@behaviour
def so_error(_):
    import errno
    with socket.socket() as connection:
        connection.setblocking(False)
        connection.connect_ex((ECHO, CLOSED))
        select.select([], [connection], [])
        for _ in range(2):
            say(errno.errorcode.get(connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "0"))


@behaviour
def many(_):
    async def one(number):
        try:
            _, writer = await asyncio.open_connection(ECHO, CLOSED if number % 2 else PORT)
            writer.close()
            return "connected"
        except ConnectionRefusedError:
            return "refused"
        except OSError:
            return "other"

    async def main():
        return await asyncio.gather(*(one(number) for number in range(50)))
    all = asyncio.run(main())
    say(", ".join(f"{all.count(outcome)} {outcome}" for outcome in ("connected", "refused", "other")))


@behaviour
def socket_names(_):
    with socket.create_connection((POD, POD_PORT)) as connection:
        say("peer", shown(connection.getpeername()))
        here = shown(connection.getsockname())
        connection.sendall(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
    say(f"the server saw {'this' if f'client={here}' in answer.splitlines() else 'another'} address")


@behaviour
def dup(_):
    connection = dial()
    second, third = connection.dup(), connection.dup()
    connection.close()
    say(talk(second))
    second.close()
    converse(third)


@behaviour
def fork(_):
    connection = dial()
    pid = os.fork()
    if pid == 0:
        say("child:", talk(connection))
        say("own:", talk(dial()))
        os._exit(0)
    os.waitpid(pid, 0)
    converse(connection)


@behaviour
def threads(_):
    echoed = []

    def one():
        with dial() as connection, open(FILES + "text"):
            echoed.append(talk(connection))
    all = [threading.Thread(target=one) for _ in range(8)]
    for thread in all:
        thread.start()
    for thread in all:
        thread.join()
    say(echoed.count("ping"), "echoes")


@behaviour
def closed_descriptors(_):
    import fcntl
    kept = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 200) for number in range(3)]
    for number in range(3):
        os.close(number)
    file = os.open(FILES + "text", os.O_RDONLY)
    connection = socket.socket()
    connection.connect((ECHO, PORT))
    copy = os.dup(file)
    line, echoed = os.read(copy, 64).decode().rstrip(), talk(connection)
    numbers = file, connection.fileno(), copy
    for number, old in enumerate(kept):
        os.dup2(old, number)
    connection.detach()
    say("file {}, socket {}, copy {}".format(*numbers))
    say(f"{line}, {echoed}")


def both_ways(connection, length):
    # A pattern that does not repeat at a power of two.
    sent = bytes(number * 31 % 251 for number in range(251 * 4096)) * (length // (251 * 4096) + 1)
    sent = sent[:length]

    def pour():
        for at in range(0, length, 17321):
            connection.sendall(sent[at:at + 17321])
        connection.shutdown(socket.SHUT_WR)
    writer = threading.Thread(target=pour)
    writer.start()
    back = bytearray()
    while piece := connection.recv(9973):
        back += piece
    writer.join()
    return len(back) if back == sent else next(at for at in range(length) if back[at:at + 1] != sent[at:at + 1])


@behaviour
def large(_):
    with dial() as connection:
        say(both_ways(connection, 8 << 20), "bytes came back as they were sent")


@behaviour
def interrupted_restart(_):
    ticks = [0]

    def tick(*_):
        ticks[0] += 1
    signal.signal(signal.SIGALRM, tick)
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    connected = turned_away = opened = 0
    for _ in range(50):
        with dial():
            connected += 1
        try:
            socket.create_connection((ECHO, CLOSED)).close()
        except ConnectionRefusedError:
            turned_away += 1
        with open(FILES + "text"):
            opened += 1
    with dial() as connection:
        moved = both_ways(connection, 4 << 20)
    signal.setitimer(signal.ITIMER_REAL, 0)
    say(f"{connected} connected, {turned_away} refused, {opened} opened, {moved} bytes")
    say("signals came" if ticks[0] > 10 else "no signals")


def datagram_socket():
    some = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    some.settimeout(20)
    return some


@behaviour
def udp_connected(_):
    with datagram_socket() as some:
        some.connect((ECHO, PORT))
        some.send(b"ping")
        back = some.recv(16).decode()
        say(shown(some.getpeername()), "says", back)


@behaviour
def udp_unconnected(_):
    with datagram_socket() as some:
        some.sendto(b"ping", (ECHO, PORT))
        back, source = some.recvfrom(16)
        say(shown(source), "says", back.decode())


@behaviour
def control(_):
    with datagram_socket() as some:
        some.setsockopt(socket.SOL_SOCKET, 29, 1)  # SO_TIMESTAMP
        some.sendmsg([b"pi", b"ng"], [(socket.IPPROTO_IP, socket.IP_TTL, (77).to_bytes(4, "little"))], 0, (ECHO, PORT))
        parts = [bytearray(2), bytearray(2)]
        _, ancillary, _, source = some.recvmsg_into(parts, 256)
        say(shown(source), "says", *(part.decode() for part in parts))
        stamped = any(level == socket.SOL_SOCKET and kind == 29 for level, kind, _ in ancillary)
        say("with a time stamp" if stamped else "without a time stamp")
