"""Reads and writes the pod's files in every way, in processes of their own, until each has an error: its errno is printed."""
import mmap, os, sys, threading, time

directory = sys.argv[1]

def reads():
    while True:
        with open(directory + "/read", "rb", buffering=0) as file:
            while file.read(1000): pass

def looks():
    number = 0
    while True:
        number += 1
        os.stat(directory + f"/{number % 10}")
        try: os.stat(directory + f"/none{number}")
        except FileNotFoundError: pass
        os.listdir(directory)

def writes():
    file = os.open(directory + "/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        os.write(file, b"%08d" % 0)
        os.fsync(file)

def makes():
    number = 0
    while True:
        number += 1
        path = directory + f"/made{number}"
        os.mkdir(path); os.rename(path, path + "x"); os.rmdir(path + "x")

def run(work):
    if os.fork(): return
    try: work()
    except OSError as error:
        os.write(1, b"%s %d\n" % (work.__name__.encode(), error.errno))
    os._exit(0)

for work in (reads, looks, writes, makes): run(work)
os.write(1, b"begun\n")
while True:
    try: os.wait()
    except ChildProcessError: break
