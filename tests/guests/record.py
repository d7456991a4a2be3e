# An HTTP server that writes every request to a file, byte for byte (each behind its length, 4 bytes), and answers 503.
# Says how each connection ended. SIGUSR1 closes the listener, SIGUSR2 opens one again; SIGTERM closes it, too, and ends
# the program once no request has come for a while.
# usage: record.py FILE [PORT]
import signal
import socket
import struct
import sys
import threading
import time

record = open(sys.argv[1], "wb", buffering=0)
port = int(sys.argv[2]) if len(sys.argv) > 2 else 8080
lock = threading.Lock()
last = time.monotonic()


def say(text):
    with lock:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def length_of_first(data):
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return None
    length = 0
    for line in data[:head].split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    whole = head + 4 + length
    return whole if len(data) >= whole else None


def serve(connection, address):
    global last
    body = b"service=local\nclient=%s:%d\n" % (address[0].encode(), address[1])
    answer = b"HTTP/1.1 503 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    data = b""
    count = 0
    try:
        while True:
            received = connection.recv(1 << 18)
            if not received:
                break
            data += received
            while (length := length_of_first(data)) is not None:
                with lock:
                    record.write(struct.pack(">I", length) + data[:length])
                last = time.monotonic()
                data = data[length:]
                count += 1
                connection.sendall(answer)
        how = "orderly"
    except OSError as error:
        how = type(error).__name__
    connection.close()
    say("end %s after %d requests and %d bytes" % (how, count, len(data)))


def listen():
    global listener
    listener = socket.create_server(("0.0.0.0", port), backlog=512)
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    say("listening")


def accept(listener):
    while True:
        try:
            connection, address = listener.accept()
        except OSError:
            return
        threading.Thread(target=serve, args=(connection, address), daemon=True).start()


def close():
    # shutdown wakes the thread that waits in accept.
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    say("closed")


# Before any thread is: they inherit it.
signals = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM]
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
listen()
while (number := signal.sigwait(signals)) != signal.SIGTERM:
    close() if number == signal.SIGUSR1 else listen()
close()
while time.monotonic() < last + 0.5:
    time.sleep(0.05)
