"""An ASGI application that shows what reached it, and behaves as a request's `X-Test` header asks.

Without that header it answers MCP well enough to be deployed.
"""

import asyncio
import base64
import gzip
import json
import os
import secrets
import time

GATES = {}
HANGING = []
DISCONNECTED = []
SESSIONS = set()
INSTANCE = secrets.token_hex(8)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    answer = Answer(scope, receive, send)
    asked = answer.header("x-test")
    if asked is None:
        await mcp(answer)
        return
    behaviour, _, argument = asked.partition(":")
    await BEHAVIOURS[behaviour](answer, argument)


async def lifespan(receive, send):
    while True:
        event = await receive()
        await send({"type": event["type"] + ".complete"})
        if event["type"] == "lifespan.shutdown":
            return


class Answer:
    """One request and the way back."""

    def __init__(self, scope, receive, send):
        self.scope, self.receive, self.send_event = scope, receive, send
        self.headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]

    def header(self, name):
        return next((value for known, value in self.headers if known.lower() == name), None)

    async def body(self):
        body = b""
        while True:
            event = await self.receive()
            if event["type"] == "http.disconnect":
                return body
            body += event["body"]
            if not event.get("more_body"):
                return body

    async def start(self, status=200, **headers):
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        await self.send_event({"type": "http.response.start", "status": status, "headers": named})

    async def send(self, body, more=False):
        await self.send_event({"type": "http.response.body", "body": body, "more_body": more})

    async def json(self, value, status=200, **headers):
        await self.start(status, content_type="application/json", **headers)
        await self.send(json.dumps(value).encode())

    async def disconnect(self):
        while (await self.receive())["type"] != "http.disconnect":
            pass


async def mcp(answer):
    message = json.loads(await answer.body() or b"{}")
    method, id = message.get("method"), message.get("id")
    results = {
        "initialize": {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "echo", "version": "1"},
        },
        "tools/list": {"tools": []},
        "ping": {},
    }
    if id is None:
        await answer.start(202)
        await answer.send(b"")
    elif method in results:
        await answer.json({"jsonrpc": "2.0", "id": id, "result": results[method]})
    else:
        error = {"code": -32601, "message": "Method not found"}
        await answer.json({"jsonrpc": "2.0", "id": id, "error": error}, 404)


async def echo(answer, _):
    """Everything of the request."""
    body = await answer.body()
    scope = answer.scope
    seen = {
        "method": scope["method"],
        "scheme": scope["scheme"],
        "path": scope["raw_path"].decode("latin-1"),
        "query": scope["query_string"].decode("latin-1"),
        "headers": answer.headers,
        "body": base64.b64encode(body).decode(),
        "instance": INSTANCE,
    }
    await answer.json(seen)


async def status(answer, code):
    """A status with a body of its own kind."""
    await answer.body()
    await answer.start(int(code), content_type="text/x-test; charset=utf-8", x_kept="yes")
    await answer.send(f"body of {code}".encode())


async def gate(answer, name):
    """An event at once, and a second one when somebody opens the gate: nothing between may wait for more."""
    await answer.body()
    await answer.start(content_type="text/event-stream", cache_control="no-cache, no-transform")
    await answer.send(b"data: first\n\n", more=True)
    await GATES.setdefault(name, asyncio.Event()).wait()
    await answer.send(b"data: second\n\n")


async def open_gate(answer, name):
    GATES.setdefault(name, asyncio.Event()).set()
    await answer.json({})


async def hang(answer, name):
    """Says nothing until the client is gone."""
    await answer.body()
    HANGING.append(name)
    await answer.disconnect()
    DISCONNECTED.append(name)


async def stream(answer, name):
    """Says one thing, then nothing until the client is gone."""
    await answer.body()
    await answer.start(content_type="text/event-stream")
    await answer.send(b": here\n\n", more=True)
    await answer.disconnect()
    DISCONNECTED.append(name)


async def murmur(answer, seconds):
    """Nothing but a comment every 15 s, as SDK servers send them, and after that time an event."""
    await answer.body()
    await answer.start(content_type="text/event-stream", cache_control="no-cache, no-transform")
    ends = time.monotonic() + int(seconds)
    while time.monotonic() < ends:
        await answer.send(b": ping\n\n", more=True)
        await asyncio.sleep(15)
    await answer.send(b"data: still here\n\n")


async def silence(answer, seconds):
    """Not a byte for that time, and then the answer."""
    await answer.body()
    await asyncio.sleep(int(seconds))
    await answer.json({"silent": int(seconds)})


async def hanging(answer, _):
    await answer.json(HANGING)


async def disconnected(answer, _):
    await answer.json(DISCONNECTED)


async def crash(answer, _):
    """Breaks off in the middle of an answer."""
    await answer.body()
    await answer.start(content_type="text/event-stream")
    await answer.send(b"data: half\n\n", more=True)
    raise RuntimeError("as asked")


async def die(answer, _):
    """Ends the process without an answer."""
    os._exit(7)


async def packed(answer, _):
    """A body with a content coding of its own."""
    body = gzip.compress(b"packed by the server", mtime=0)
    await answer.start(content_type="text/plain", content_encoding="gzip")
    await answer.send(body)


async def redirect(answer, path):
    """To a place on its own host, as it knows it."""
    location = f"{answer.scope['scheme']}://{answer.header('host')}{path}"
    await answer.start(307, location=location)
    await answer.send(b"")


async def session(answer, _):
    """MCP sessions as SDK servers have them: made, known, ended."""
    id = answer.header("mcp-session-id")
    if id is None:
        id = secrets.token_hex(16)
        SESSIONS.add(id)
    elif id not in SESSIONS:
        error = {"code": -32600, "message": "Session not found"}
        await answer.json({"jsonrpc": "2.0", "id": "server-error", "error": error}, 404)
        return
    elif answer.scope["method"] == "DELETE":
        SESSIONS.discard(id)
        await answer.json({})
        return
    await answer.json({"instance": INSTANCE, "commit": os.environ["BERTH_COMMIT"]}, mcp_session_id=id)


async def length(answer, _):
    await answer.json(len(await answer.body()))


BEHAVIOURS = {
    "echo": echo,
    "status": status,
    "gate": gate,
    "open": open_gate,
    "hang": hang,
    "stream": stream,
    "murmur": murmur,
    "silence": silence,
    "hanging": hanging,
    "disconnected": disconnected,
    "crash": crash,
    "die": die,
    "packed": packed,
    "redirect": redirect,
    "session": session,
    "length": length,
}
