"""An HTTP/1.1 server that says who it is, whom it takes for its client, and the name it was asked for.

tls.py PORT [CERTIFICATE KEY]: with TLS where it has a certificate.
"""

import http.server
import ssl
import sys

names = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        name = names.get(self.connection, "-")
        self.answer(f"local {self.client_address[0]} {name} {self.path}\n")

    def do_POST(self):
        got = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(f"local got {len(got)}\n")

    def answer(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    context.set_alpn_protocols(["http/1.1"])
    context.sni_callback = lambda connection, name, _: names.__setitem__(connection, name)
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
