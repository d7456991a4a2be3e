"""The pod as children see it that Python starts in each of its ways, and as threads do."""
import os, socket, subprocess, threading

FILE = "/etc/shop/shop.toml"

def first(text):
    return text.splitlines()[1]

print("subprocess", first(subprocess.check_output(["cat", FILE], text=True)))
# A preexec_fn makes it fork(), otherwise it is vfork().
print("fork", first(subprocess.check_output(["cat", FILE], text=True, preexec_fn=lambda: None)))

read, write = os.pipe()
pid = os.posix_spawn("/bin/cat", ["cat", FILE], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)])
os.close(write)
print("posix_spawn", first(os.fdopen(read).read()), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

found = []
def look():
    with socket.create_connection(("web", 80), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
        text = b""
        while more := connection.recv(4096):
            text += more
    found.append((first(open(FILE).read()), b"service=web" in text))
threads = [threading.Thread(target=look) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("threads", len(found), set(found))
