"""Every way to change files below the directory that is given; each is looked at afterwards. Ends silently, or by an assertion."""
import errno
import fcntl
import mmap
import os
import socket
import stat
import sys

os.umask(0o022)
top = sys.argv[1] + "/written"


def fails(number, call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        assert error.errno == number, (call, arguments, error)
    else:
        raise AssertionError((call, arguments, "did not fail"))


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data, mode="wb"):
    with open(path, mode) as file:
        file.write(data)


os.mkdir(top)
assert stat.S_IMODE(os.stat(top).st_mode) == 0o755
one, two, three = top + "/one", top + "/two", top + "/three"

# Contents: of the same length within one tick of the clock too.
write(one, b"hello")
assert (read(one), os.stat(one).st_size) == (b"hello", 5)
for number in range(50):
    write(one, b"%05d" % number)
    assert read(one) == b"%05d" % number
write(one, b" world", "ab")
assert read(one) == b"00049 world"
os.truncate(one, 5)
assert read(one) == b"00049"
with open(one, "r+b") as writer, open(one, "rb", buffering=0) as reader:
    assert reader.read() == b"00049"
    writer.write(b"abcde")
    writer.flush()
    os.fsync(writer.fileno())
    reader.seek(0)
    assert reader.read() == b"abcde"
os.truncate(one, 1 << 20)
assert (os.stat(one).st_size, read(one)[-3:]) == (1 << 20, b"\0\0\0")
large = os.urandom(3_000_001)
write(two, large)
assert read(two) == large
with open(two, "r+b") as file:
    mapped = mmap.mmap(file.fileno(), 0)
    mapped[5000:5006] = b"mapped"
    mapped.flush()
    mapped.close()
assert read(two)[4999:5007] == large[4999:5000] + b"mapped" + large[5006:5007]
with open(two, "r+b") as file:
    os.posix_fallocate(file.fileno(), 0, 4_000_000)
assert os.stat(two).st_size == 4_000_000

# Names.
fails(errno.EEXIST, os.open, one, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
os.link(one, three)
assert (os.stat(one).st_nlink, os.stat(one).st_ino) == (2, os.stat(three).st_ino)
write(three, b"by its other name")
assert read(one) == b"by its other name"
os.symlink("one", top + "/link")
assert (os.readlink(top + "/link"), read(top + "/link")) == ("one", b"by its other name")
os.rename(one, top + "/four")
fails(errno.ENOENT, os.stat, one)
assert sorted(os.listdir(top)) == ["four", "link", "three", "two"]
os.unlink(three)
assert (os.stat(top + "/four").st_nlink, read(top + "/four")) == (1, b"by its other name")
os.rename(two, top + "/four")
assert os.stat(top + "/four").st_size == 4_000_000
os.makedirs(top + "/deep/er")
write(top + "/deep/er/file", b"deep")
os.rename(top + "/deep", top + "/moved")
assert read(top + "/moved/er/file") == b"deep"
fails(errno.ENOTEMPTY, os.rmdir, top + "/moved")
fails(errno.EISDIR, os.open, top + "/moved", os.O_WRONLY)
fails(errno.ENOTDIR, os.mkdir, top + "/four/x")
fails(errno.ENAMETOOLONG, os.mkdir, top + "/" + "x" * 256)
fails(errno.EOPNOTSUPP, os.open, top, os.O_TMPFILE | os.O_RDWR)
odd = os.fsencode(top) + b"/caf\xe9 \n\xff"
os.mkdir(odd)
os.rmdir(odd)
os.mkfifo(top + "/fifo")
assert stat.S_ISFIFO(os.stat(top + "/fifo").st_mode)

# A socket, to which the programs of this machine connect.
with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
    server.bind(top + "/socket")
    server.listen()
    assert server.getsockname() == top + "/socket"
    assert stat.S_ISSOCK(os.stat(top + "/socket").st_mode)
    client.connect(top + "/socket")
    assert client.getpeername() == top + "/socket"
    with server.accept()[0] as accepted:
        client.send(b"hello")
        assert accepted.recv(100) == b"hello"
    fails(errno.EADDRINUSE, client.bind, top + "/socket")

# Attributes.
os.chmod(top + "/four", 0o640)
os.utime(top + "/four", (1, 2))
status = os.stat(top + "/four")
assert (stat.S_IMODE(status.st_mode), status.st_atime, status.st_mtime) == (0o640, 1, 2)

# Open, and its name gone.
held = os.open(top + "/four", os.O_RDWR | os.O_TRUNC)
os.unlink(top + "/four")
os.write(held, b"gone, but here")
assert os.pread(held, 100, 0) == b"gone, but here"
os.ftruncate(held, 4)
assert (os.fstat(held).st_size, os.fstat(held).st_nlink) == (4, 0)
os.close(held)

# Locks, among the processes of the session.
with open(top + "/lock", "w") as file, open(top + "/lock", "w") as other:
    fcntl.flock(file, fcntl.LOCK_EX)
    fails(errno.EAGAIN, fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if os.fork() == 0:
        fcntl.lockf(file, fcntl.LOCK_EX)
        os._exit(0)
    assert os.wait()[1] == 0
write(sys.argv[1] + "/left", b"left by the app")
