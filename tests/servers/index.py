"""A package index that asks for a name and a password, with one package: `private-thing` 1.0.

Started as `python3 index.py ADDRESS USER PASSWORD`; prints its port.
"""

import base64
import hashlib
import http.server
import io
import sys
import zipfile

WHEEL = "private_thing-1.0-py3-none-any.whl"


def wheel():
    """The package: a module with one value, and what makes it a wheel."""
    files = {
        "private_thing.py": 'VALUE = "from the private index"\n',
        "private_thing-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: private-thing\nVersion: 1.0\n",
        "private_thing-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in files) + "private_thing-1.0.dist-info/RECORD,,\n"
    files["private_thing-1.0.dist-info/RECORD"] = record
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), text)
    return buffer.getvalue()


def main(address, user, password):
    contents = wheel()
    digest = hashlib.sha256(contents).hexdigest()
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    pages = {
        "/simple/private-thing/": f'<a href="/files/{WHEEL}#sha256={digest}">{WHEEL}</a>'.encode(),
        f"/files/{WHEEL}": contents,
    }

    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            allowed = self.headers.get("authorization") == expected
            body = pages.get(self.path) if allowed else b""
            self.send_response(401 if not allowed else 404 if body is None else 200)
            if not allowed:
                self.send_header("www-authenticate", "Basic")
            self.send_header("content-type", "text/html" if self.path.startswith("/simple") else "application/octet-stream")
            self.send_header("content-length", str(len(body or b"")))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body or b"")

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer((address, 0), Index)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
