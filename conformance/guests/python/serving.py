"""Incoming connections. The argument is the port."""
import asyncio
import os
import socket

from guest import POD, behaviour, say, shown


def listen(port, host="0.0.0.0"):
    listener = socket.create_server((host, int(port)), backlog=64)
    say("listening")
    return listener


def line_from(connection):
    return connection.makefile("r").readline().rstrip()


def one_from(listener):
    with listener:
        connection, source = listener.accept()
        with connection:
            peer = shown(connection.getpeername())
            say(f"client {shown(source)},", "twice" if peer == shown(source) else peer)
            say("said", line_from(connection))
            connection.sendall(b"pong\n")


@behaviour
def serve(port):
    one_from(listen(port))


@behaviour
def serve_mirrored(port):
    one_from(listen(port))


@behaviour
def serve_pod_address(port):
    one_from(listen(port, POD))


@behaviour
def serve_nonblocking(port):
    async def main():
        done = asyncio.Event()

        async def one(reader, writer):
            source = shown(writer.get_extra_info("peername"))
            peer = shown(writer.get_extra_info("socket").getpeername())
            say(f"client {source},", "twice" if peer == source else peer)
            say("said", (await reader.readline()).decode().rstrip())
            writer.write(b"pong\n")
            await writer.drain()
            writer.close()
            done.set()
        await asyncio.start_server(one, "0.0.0.0", int(port))
        say("listening")
        await done.wait()
    asyncio.run(main())


@behaviour
def prefork(port):
    listener = listen(port)
    for _ in range(3):
        if os.fork():
            continue
        last = False
        while not last:
            connection, _ = listener.accept()
            line = line_from(connection)
            last = line == "last"
            if not last:
                say("got", line)
            connection.sendall(b"pong\n")
            connection.close()
        os._exit(0)
    listener.close()
    for _ in range(3):
        os.wait()
