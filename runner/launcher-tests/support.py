"""Runs the launcher as an instance would, with real packages, and talks MCP to it."""

import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import textwrap
import unittest
import urllib.error
import urllib.request
from pathlib import Path

LAUNCHER = Path(__file__).resolve().parent.parent / "src/launcher"
ENVIRONMENTS = Path(
    os.environ.get("BERTH_LAUNCHER_ENVS") or Path(__file__).resolve().parents[2] / "target/launcher-environments"
)
PACKAGES = ("fastmcp==2.14.7", "fastmcp==3.4.10", "fastmcp==4.1.2", "mcp==1.30.0", "mcp==2.3.0")

# Importing FastMCP takes up to 10 s on two busy cores.
START_SECONDS = 90


def uv():
    """The uv program; its absence fails the tests with the way to get it."""
    found = os.environ.get("BERTH_UV") or shutil.which("uv")
    if not found:
        raise AssertionError("These tests need uv. Install it with: pip install uv (or set BERTH_UV to its path)")
    return found


def python_of(package):
    """The interpreter of an environment with `package`, made when it is missing."""
    directory = ENVIRONMENTS / package
    interpreter = directory / "bin/python"
    ready = directory / "ready"
    if not ready.exists() and not interpreter.exists():
        ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        subprocess.run([uv(), "venv", "--quiet", "--clear", "--python", version, "--", directory], check=True)
        subprocess.run(
            [uv(), "pip", "install", "--quiet", "--compile-bytecode", "--python", interpreter, "--", package], check=True
        )
        ready.touch()
    return interpreter


class Project(unittest.TestCase):
    """A test case with a directory of source files and the instances started from it."""

    def setUp(self):
        self.app = Path(tempfile.mkdtemp(prefix="berth-app-")).resolve()
        self.addCleanup(shutil.rmtree, self.app, ignore_errors=True)

    def write(self, **files):
        """`main_py="…"` writes main.py; `/` in a name is `__`."""
        for name, text in files.items():
            self.write_file(name.replace("__", "/").replace("_py", ".py").replace("_json", ".json"), text)

    def write_file(self, name, text):
        path = self.app / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")

    def start(self, package, entrypoint="", **environment):
        instance = Instance(python_of(package), self.app, entrypoint, environment)
        self.addCleanup(instance.kill)
        return instance

    def serve(self, package, entrypoint="", **environment):
        """Starts an instance that must serve; returns it and its `serve` line."""
        instance = self.start(package, entrypoint, **environment)
        line = instance.outcome()
        self.assertEqual(line["phase"], "serve", f"{line}\n{instance.log()}")
        return instance, line

    def fail_line(self, package, entrypoint="", **environment):
        """Starts an instance that must fail; returns its `fail` line."""
        instance = self.start(package, entrypoint, **environment)
        line = instance.outcome()
        self.assertEqual(line["phase"], "fail", f"{line}\n{instance.log()}")
        self.assertEqual(instance.process.wait(START_SECONDS), 1)
        return line


class Instance:
    """One run of serve.py."""

    def __init__(self, python, app, entrypoint, environment):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        home = tempfile.mkdtemp(prefix="berth-home-")
        self._home = home
        base = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": home,
            "PORT": str(self.port),
            "BERTH_APP_DIR": str(app),
            "BERTH_ENTRYPOINT": entrypoint,
            "PYTHONUNBUFFERED": "1",
        }
        self.process = subprocess.Popen(
            [python, LAUNCHER / "serve.py"],
            cwd="/",
            env={**base, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines, self._log, self._ended = [], [], threading.Event()
        self._phases = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=(stream, stream is self.process.stdout), daemon=True)
            for stream in (self.process.stdout, self.process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream, reports):
        for line in stream:
            before, marker, after = line.partition("@@berth ")
            self._log.append(before if marker else line)
            if marker and reports:
                self._phases.put(json.loads(after))
        if reports:
            self._phases.put({"phase": "end"})

    def outcome(self):
        """The `serve` or `fail` line, or `{"phase": "end"}` when the process ended without one."""
        while True:
            line = self._phases.get(timeout=START_SECONDS)
            self.lines.append(line)
            if line["phase"] in ("serve", "fail", "end"):
                return line

    def phase(self, name):
        return next((line for line in self.lines if line["phase"] == name), None)

    def log(self):
        return "".join(self._log)

    def post(self, message, path="/mcp", session=None, headers=()):
        """Sends one JSON-RPC message; returns status, headers and the answer."""
        headers = {
            **dict(headers),
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            # What the edge sends: the public host, not the address.
            "Host": "project.example.com",
        }
        if session:
            headers["Mcp-Session-Id"] = session
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(message).encode(), headers, method="POST"
        )
        with urllib.request.urlopen(request, timeout=START_SECONDS) as response:
            body = response.read().decode()
            data = [line[5:] for line in body.splitlines() if line.startswith("data:") and line[5:].strip()]
            text = data[-1] if data else body
            return response.status, response.headers, json.loads(text) if text.strip() else None

    def initialize(self, path="/mcp"):
        """A legacy handshake; returns the session's id."""
        hello = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "launcher-tests", "version": "1"},
        }
        status, headers, answer = self.post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}, path)
        assert status == 200 and "result" in answer, answer
        session = headers.get("Mcp-Session-Id")
        self.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, path, session)
        return session

    def tools(self, path="/mcp"):
        """Names of the tools, after a handshake."""
        session = self.initialize(path)
        _, _, answer = self.post({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, path, session)
        return sorted(tool["name"] for tool in answer["result"]["tools"])

    def call(self, tool, **arguments):
        """The text of a tool's result, after a handshake."""
        session = self.initialize()
        params = {"name": tool, "arguments": arguments}
        _, _, answer = self.post({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": params}, session=session)
        return answer["result"]["content"][0]["text"]

    def stop(self):
        """SIGTERM; returns the exit code."""
        self.process.terminate()
        code = self.process.wait(START_SECONDS)
        for reader in self._readers:
            reader.join(START_SECONDS)
        return code

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(START_SECONDS)
        self.process.stdout.close()
        self.process.stderr.close()
        shutil.rmtree(self._home, ignore_errors=True)
