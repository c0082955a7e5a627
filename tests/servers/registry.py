"""A registry of container images with one image, as `docker save` wrote it, that may be pulled by everyone.

Started as `python3 registry.py ARCHIVE NAME TAG`; prints its port on the loopback address.
"""

import hashlib
import http.server
import json
import sys
import tarfile

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"


def main(archive, name, tag):
    blobs = {}

    def blob(kind, contents):
        digest = "sha256:" + hashlib.sha256(contents).hexdigest()
        blobs[digest] = (kind, contents)
        return {"mediaType": kind, "size": len(contents), "digest": digest}

    with tarfile.open(archive) as saved:
        read = lambda path: saved.extractfile(path).read()  # noqa: E731
        listed = json.loads(read("manifest.json"))[0]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": blob(CONFIG, read(listed["Config"])),
            "layers": [blob(LAYER, read(layer)) for layer in listed["Layers"]],
        }
    pages = {"/v2/": ("application/json", b"{}")}
    digest = blob(MANIFEST, json.dumps(manifest).encode())["digest"]
    for reference in (tag, digest):
        pages[f"/v2/{name}/manifests/{reference}"] = blobs[digest]
    pages.update({f"/v2/{name}/blobs/{of}": page for of, page in blobs.items()})

    class Registry(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            kind, body = pages.get(self.path, ("application/json", b""))
            self.send_response(200 if self.path in pages else 404)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            if kind == MANIFEST:
                self.send_header("docker-content-digest", digest)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
