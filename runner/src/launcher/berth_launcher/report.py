"""The machine-readable lines that the runner reads from this process's standard output.

One line per phase: `@@berth {json}`. A tenant may leave an unfinished line before it, so a reader searches for the
marker instead of anchoring it to the start of the line.
"""

import json
import os
import sys
import time

MARKER = "@@berth "

# Container engines cut log lines at 16 KiB; a line must stay whole to be readable.
MAX_TEXT = 2_000
MAX_LIST = 20

# A tenant may replace or close sys.stdout; phases keep going to the descriptor the process was started with.
_OUTPUT = os.dup(1)


class Stopwatch:
    """Milliseconds since it was made or last read."""

    def __init__(self):
        self._since = time.monotonic()

    def lap(self):
        now = time.monotonic()
        elapsed, self._since = now - self._since, now
        return round(elapsed * 1000)


def emit(phase, **fields):
    """Writes one phase line; never raises, because a report must not be what breaks a server."""
    line = MARKER + json.dumps({"phase": phase, **{name: _shorten(value) for name, value in fields.items()}})
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        pass
    data = line.encode() + b"\n"
    try:
        while data:
            data = data[os.write(_OUTPUT, data) :]
    except OSError:
        pass


def fail(step, code, message, package=None):
    """The last line of a build without a result, and its end."""
    emit("fail", step=step, code=code, message=message, package=package)
    sys.stdout.flush()
    os._exit(1)


def _shorten(value):
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return value[: MAX_TEXT - 1] + "…"
    if isinstance(value, list):
        return [_shorten(item) for item in value[:MAX_LIST]]
    return value
