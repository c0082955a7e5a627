"""The first process of a container: starts the program, passes its output on, and no more than the host can bear.

What a program writes is copied by the container engine, line by line, outside the container's own bounds: without a
limit a server that prints in a loop keeps a core of the host busy. So its output goes through a pipe to this process,
which belongs to the container and pays from the container's share. What is too much is counted and left out; the
program is never held up.

    environment.py:                   guard.start() goes on in a child process
    python /berth/berth_launcher/guard.py PROGRAM …  the same for any other program
"""

import os
import select
import signal
import sys
import time

# Well above what anyone reads, and far below what costs the host anything: copying 1 MiB a second in lines of this
# many takes the engine a few hundredths of a core.
LINES_PER_SECOND = 1_000
BYTES_PER_SECOND = 1024 * 1024
# A long traceback, a chatty start.
BURST_SECONDS = 3
# Engines cut a line here into several.
MAX_LINE_BYTES = 16 * 1024
LINE_CUT = " … (line cut)\n".encode()
# Lines for the runner are passed on even then, up to this much in all.
MARKER = b"@@berth "
MAX_MARKED_BYTES = 256 * 1024
CHUNK_BYTES = 64 * 1024
# A flood that goes on is told of this often.
TELL_SECONDS = 1
# What is left in the pipes when the program has ended: a process of its own may hold them open.
LAST_BYTES = 1024 * 1024
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
# prctl(2)
PR_SET_DUMPABLE = 4


def start():
    """Returns in a child process whose output is limited; this process becomes its guard."""
    outputs, errors, ready = os.pipe(), os.pipe(), os.pipe()
    child = os.fork()
    if child:
        for descriptor in (outputs[1], errors[1], ready[0]):
            os.close(descriptor)
        _hide()
        os.write(ready[1], b".")
        os._exit(Guard(child, {outputs[0]: 1, errors[0]: 2}).run())
    os.dup2(outputs[1], 1)
    os.dup2(errors[1], 2)
    for descriptor in (*outputs, *errors, ready[1]):
        os.close(descriptor)
    # Nothing of the project runs before the guard is out of its reach.
    os.read(ready[0], 1)
    os.close(ready[0])


def _hide():
    """Without this the child, which has the same user, could write to /proc/1/fd/1 past every limit."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")


class Limit:
    """How much may be passed on now: a bucket of lines and one of bytes."""

    def __init__(self, now):
        self._since = now
        self._lines = LINES_PER_SECOND * BURST_SECONDS
        self._bytes = BYTES_PER_SECOND * BURST_SECONDS

    def refill(self, now):
        elapsed, self._since = now - self._since, now
        self._lines = min(self._lines + elapsed * LINES_PER_SECOND, LINES_PER_SECOND * BURST_SECONDS)
        self._bytes = min(self._bytes + elapsed * BYTES_PER_SECOND, BYTES_PER_SECOND * BURST_SECONDS)

    def is_spent(self):
        return self._lines < 1 or self._bytes < MAX_LINE_BYTES

    def take(self, size):
        """Whether a line of this size passes."""
        if self._lines < 1 or self._bytes < size:
            return False
        self._lines -= 1
        self._bytes -= size
        return True


class Stream:
    """One of the two outputs: the line that is being read."""

    def __init__(self, target):
        self.target = target
        self.line = b""
        # The rest of this line is left out: it was too long, or it came too fast.
        self.skipping = False
        # It came too fast, and is still to be counted.
        self.uncounted = False


class Guard:
    """Passes output on until the child has ended, and tells how it ended."""

    def __init__(self, child, targets):
        self._child = child
        self._status = None
        self._streams = {source: Stream(target) for source, target in targets.items()}
        self._limit = Limit(time.monotonic())
        self._marked = 0
        self._dropped_lines = 0
        self._dropped_bytes = 0
        self._told = time.monotonic()

    def run(self):
        wake, waker = os.pipe()
        for descriptor in (wake, waker):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in FORWARDED:
            signal.signal(number, self._forward)
        poll = select.poll()
        for descriptor in (wake, *self._streams):
            poll.register(descriptor, select.POLLIN)
        self._reap()
        while self._status is None:
            # Whoever fell silent is told a moment later what was left out.
            for descriptor, _ in poll.poll(500 if self._dropped_lines else None):
                if descriptor == wake:
                    os.read(wake, 512)
                elif not self._pass_on(descriptor):
                    poll.unregister(descriptor)
            self._tell_dropped(time.monotonic())
            self._reap()
        return self._end()

    def _forward(self, number, _frame):
        try:
            os.kill(self._child, number)
        except ProcessLookupError:
            pass

    def _reap(self):
        """Collects every process that has ended: the first one of a container inherits the orphans."""
        while True:
            try:
                ended, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if ended == 0:
                return
            if ended == self._child:
                self._status = status

    def _pass_on(self, source):
        """Reads once; whether there may be more."""
        try:
            chunk = os.read(source, CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            return False
        self._limit.refill(time.monotonic())
        stream = self._streams[source]
        if self._limit.is_spent() and MARKER not in stream.line + chunk:
            self._drop_chunk(stream, chunk)
        else:
            self._pass_lines(stream, chunk)
        return True

    def _drop_chunk(self, stream, chunk):
        """The quick way for a flood: nothing is taken apart."""
        self._dropped_lines += chunk.count(b"\n")
        self._dropped_bytes += len(stream.line) + len(chunk)
        stream.line = b""
        # A line that has begun is dropped to its end.
        stream.skipping = stream.uncounted = not chunk.endswith(b"\n")

    def _pass_lines(self, stream, chunk):
        passed = []
        for piece in _lines(chunk):
            ends = piece.endswith(b"\n")
            if stream.skipping:
                stream.skipping = not ends
                if ends and stream.uncounted:
                    self._dropped_lines += 1
                    stream.uncounted = False
                continue
            line = stream.line + piece
            if ends:
                stream.line = b""
            elif len(line) < MAX_LINE_BYTES:
                stream.line = line
                continue
            else:
                stream.line, stream.skipping = b"", True
            if len(line) > MAX_LINE_BYTES or not ends:
                line = line[: MAX_LINE_BYTES - len(LINE_CUT)] + LINE_CUT
            if self._passes(line):
                passed.append(line)
            else:
                self._dropped_lines += 1
                self._dropped_bytes += len(line)
        _write(stream.target, b"".join(passed))

    def _passes(self, line):
        if self._limit.take(len(line)):
            return True
        if MARKER in line and self._marked + len(line) <= MAX_MARKED_BYTES:
            self._marked += len(line)
            return True
        return False

    def _tell_dropped(self, now):
        self._limit.refill(now)
        if self._dropped_lines and not self._limit.is_spent() and now - self._told >= TELL_SECONDS:
            self._told = now
            # For the runner, whose own limit would leave out a plain line right behind a flood.
            text = b'@@berth {"phase":"left_out","lines":%d,"bytes":%d}\n'
            _write(1, text % (self._dropped_lines, self._dropped_bytes))
            self._dropped_lines = self._dropped_bytes = 0

    def _end(self):
        """The last output, and the exit status."""
        for source, stream in self._streams.items():
            os.set_blocking(source, False)
            for _ in range(LAST_BYTES // CHUNK_BYTES):
                if not self._pass_on(source):
                    break
            if stream.line:
                _write(stream.target, stream.line)
        self._limit = Limit(time.monotonic())
        self._tell_dropped(self._told + TELL_SECONDS)
        if os.WIFSIGNALED(self._status):
            # As shells say it; the first process of a container cannot end by a signal itself.
            return 128 + os.WTERMSIG(self._status)
        return os.WEXITSTATUS(self._status)


def _lines(chunk):
    """By line feed alone: a carriage return belongs to its line."""
    pieces = chunk.split(b"\n")
    return [piece + b"\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])


def _write(target, data):
    try:
        while data:
            data = data[os.write(target, data) :]
    except OSError:
        # The engine is gone; the program need not be.
        pass


def main():
    start()
    program = sys.argv[1:]
    try:
        os.execvp(program[0], program)
    except (IndexError, OSError) as error:
        print(f"The program cannot be started: {error}", file=sys.stderr, flush=True)
        os._exit(127)


if __name__ == "__main__":
    main()
