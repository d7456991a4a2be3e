# In a sandbox: carries connections from ADDRESS to the unix socket PATH, runs the commands that come as JSON on its standard
# input one after the other, and prints what became of them: sandbox.py HOST:PORT PATH.
import json, socket, subprocess, sys, threading


def carry(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def relay(listener):
    while True:
        here, there = listener.accept()[0], socket.socket(socket.AF_UNIX)
        there.connect(sys.argv[2])
        for pair in ((here, there), (there, here)):
            threading.Thread(target=carry, args=pair, daemon=True).start()


host, port = sys.argv[1].rsplit(":", 1)
threading.Thread(target=relay, args=(socket.create_server((host, int(port))),), daemon=True).start()
ended = [subprocess.run(c, stdin=subprocess.DEVNULL, capture_output=True, text=True) for c in json.load(sys.stdin)]
print(json.dumps([{"code": run.returncode, "out": run.stdout, "err": run.stderr} for run in ended]))
