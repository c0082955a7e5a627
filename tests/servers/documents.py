"""Serves client documents over TLS, and misbehaves under some names.

Arguments: certificate file, key file. Prints its port. `PUT` stores what `GET` gives; `GET /requests?PATH` counts.
"""

import http.server
import json
import ssl
import sys
import threading

STORED = {}
REQUESTS = {}
# Longer than anybody waits for a document.
SLOW_SECONDS = 60


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_PUT(self):
        STORED[self.path] = self.rfile.read(int(self.headers["content-length"]))
        self.answer(204, b"")

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/requests":
            self.answer(200, json.dumps(REQUESTS.get(query, 0)).encode())
            return
        REQUESTS[path] = REQUESTS.get(path, 0) + 1
        if path == "/redirect.json":
            self.answer(302, b"", location="/client.json")
        elif path == "/not-json.html":
            self.answer(200, b"<html></html>", content_type="text/html")
        elif path == "/huge.json":
            self.answer(200, b"[" + b" " * 1_000_000 + b"]")
        elif path == "/slow.json":
            self.send_response(200)
            self.end_headers()
            threading.Event().wait(SLOW_SECONDS)
        elif path in STORED:
            self.answer(200, STORED[path], cache_control="max-age=600")
        else:
            self.answer(404, b"{}")

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in {"content_type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_address[1], flush=True)
    server.serve_forever()


main()
