"""What is this machine's: unix sockets, own listeners; and descriptors that are passed on."""
import os
import socket

from guest import POD, behaviour, say
from sockets import converse, dial


@behaviour
def scm_rights(_):
    here, there = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        here.close()
        _, descriptors, _, _ = socket.recv_fds(there, 1, 1)
        converse(socket.socket(fileno=descriptors[0]))
        os._exit(0)
    there.close()
    with dial() as connection:
        socket.send_fds(here, [b"x"], [connection.fileno()])
    here.close()
    os.waitpid(pid, 0)


def between(name, address):
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(address)
        listener.listen(1)
        client.connect(address)
        accepted, _ = listener.accept()
        client.sendall(b"ping")
        say(name, accepted.recv(4).decode())
        accepted.close()


@behaviour
def unix(directory):
    one, other = socket.socketpair()
    one.sendall(b"ping")
    say("pair", other.recv(4).decode())
    path = f"{directory}/s{os.getpid()}"
    between("path", path)
    os.unlink(path)
    between("abstract", f"\0inpod-conformance-{os.getpid()}")


@behaviour
def own_listener(_):
    with socket.create_server(("127.0.0.1", 0)) as listener, \
            socket.create_connection(listener.getsockname()) as client:
        accepted, source = listener.accept()
        say("own" if source == client.getsockname() else "another's")
        accepted.close()


@behaviour
def bind_pod_address(_):
    with socket.socket() as some:
        some.bind((POD, 0))
        say("bound to", some.getsockname()[0])
