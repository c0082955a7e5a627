"""Installs wheels that all projects of the machine share, in a container in which nothing of a project runs.

Run as `/usr/bin/python3 /berth/wheels.py`, by a user of its own, who alone may write what is shared. Reads
/run/berth/job/plan.json, makes a virtual environment at /env, and waits at /run/berth/job/gate: `go` there means that
/run/berth/job/lock.txt is written, anything else that it is not wanted. What cannot be shared is left to the project's
own build, and counted in the last line.
"""

import os
import sys

# The programs are mounted read-only; writing bytecode would only fail.
sys.dont_write_bytecode = True

from berth_build import shared  # noqa: E402
from berth_launcher.report import Stopwatch, emit  # noqa: E402


def main():
    """One job. Whatever goes wrong is no reason to fail: the project's own build then does it all."""
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        work()
    except Exception as error:
        print(f"Shared packages cannot be used: {type(error).__name__}: {error}")
        sys.exit(1)


def work():
    """Makes the environment, and installs the lock that comes."""
    # What others share must not depend on how the engine starts processes.
    os.umask(0o022)
    job = shared.Job.read(shared.Places.from_environment())
    job.make_environment()
    if not job.wait():
        emit("done", left=0)
        return
    clock = Stopwatch()
    done = job.install()
    emit("install", ms=clock.lap() - done.compile_ms)
    emit("compile", ms=done.compile_ms, files=done.compiled)
    print(done.summary())
    emit("done", left=len(done.left))


if __name__ == "__main__":
    main()
