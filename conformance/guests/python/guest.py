"""guest BEHAVIOUR[=ARGUMENT]...: for each `== BEHAVIOUR` and the lines of what it saw."""
import errno
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
SELF = [sys.executable, os.path.abspath(__file__)]

FILES = "/data/conformance/"
ECHO, PORT, CLOSED = "10.77.0.40", 7000, 9
ECHO_SIX = "fd00:77::40"
POD, POD_PORT = "10.77.0.10", 8080

BEHAVIOURS = {}


def behaviour(function):
    BEHAVIOURS[function.__name__.replace("_", "-")] = function
    return function


def say(*words):
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())


def name_of(error):
    return errno.errorcode.get(error.errno, str(error))


def shown(address):
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def main():
    # Each area's imports are its own: a child that reads one file need not wait for asyncio.
    import files
    import sockets
    import names
    import local
    import serving
    for word in sys.argv[1:]:
        name, _, argument = word.partition("=")
        # A child's lines belong to what its parent was told to do.
        if name != "child":
            say("==", name)
        try:
            BEHAVIOURS[name](argument)
        except KeyError:
            say("unknown to this guest")
        except OSError as error:
            say("failed", name_of(error))


if __name__ == "__main__":
    # The areas import this file by its name; it must be one module.
    sys.modules["guest"] = sys.modules["__main__"]
    sys.path.insert(0, HERE)
    sys.dont_write_bytecode = True
    main()
