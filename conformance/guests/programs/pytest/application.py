# A WSGI application that answers with a file of the pod. By itself: a server at the port in the first argument.
import sys


def application(environment, start):
    body = open("/data/conformance/text", "rb").read()
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


if __name__ == "__main__":
    from wsgiref.simple_server import make_server
    make_server("0.0.0.0", int(sys.argv[1]), application).serve_forever()
