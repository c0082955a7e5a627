"""Builds a project's environment inside the build container and reports each phase.

Run as `/usr/bin/python3 /berth/environment.py`. Reads /run/berth/plan.json and the source at /app; writes the
environment to /env, the lock to /out/lock.txt, and keeps downloads and bytecode in /cache. A plan may ask for the lock
alone, or for what is missing in an environment that the shared wheels stand in already. Ends with 0, or with 1 after
a `fail` line. The output of the tools goes through to the build log as it is.
"""

import errno
import hashlib
import os
import sys
import traceback

# The programs are mounted read-only; writing bytecode would only fail.
sys.dont_write_bytecode = True

# Before anything keeps the output this process was started with.
if os.getpid() == 1:
    from berth_launcher import guard

    guard.start()

from berth_build import bytecode, install, plan, resolve, variables  # noqa: E402
from berth_build.tool import BuildFailure, interpreter  # noqa: E402
from berth_launcher.report import Stopwatch, emit, fail  # noqa: E402


# The disk is full, a quota is used up, a file is larger than any may be.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main():
    """Resolves, installs, compiles; every failure ends in one `fail` line."""
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    step = ["resolve"]
    try:
        variables.load(os.environ)
        build(plan.Places.from_environment(), step)
    except BuildFailure as failure:
        fail(failure.step, failure.code, str(failure), failure.package)
    except OSError as error:
        traceback.print_exc()
        fail(step[0], "disk" if error.errno in FULL else "unknown", f"{type(error).__name__}: {error}")
    except Exception as error:
        traceback.print_exc()
        fail(step[0], "unknown", f"{type(error).__name__}: {error}")


def build(places, step):
    """One build; `step[0]` always names the phase at work."""
    total, clock = Stopwatch(), Stopwatch()
    wanted = plan.read(places.plan)
    python = interpreter(wanted.python)
    lock = wanted.lock if wanted.lock is not None else resolve.resolve(wanted, places, python)
    digest = hashlib.sha256(lock.encode()).hexdigest()
    (places.out / "lock.txt").write_text(lock, encoding="utf-8")
    emit("resolve", ms=clock.lap(), packages=resolve.pinned(lock), sha256=digest, skipped=wanted.lock is not None)
    if wanted.is_lock_only:
        emit("done", ms=total.lap(), sha256=digest, reused=False)
        return
    if digest in wanted.known:
        emit("done", ms=total.lap(), sha256=digest, reused=True)
        return
    step[0] = "install"
    install.install(lock, places, python, wanted.is_begun)
    emit("install", ms=clock.lap())
    step[0] = "compile"
    files, reused = bytecode.compile_all(places.environment, places.cache)
    emit("compile", ms=clock.lap(), files=files, reused=reused)
    emit("done", ms=total.lap(), sha256=digest, reused=False)


if __name__ == "__main__":
    main()
