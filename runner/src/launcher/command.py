"""Runs a project's build command in a writable copy of its source.

Run as `/usr/bin/python3 /berth/command.py`. The source is at /source, the copy at /app, the environment at /env, read
only. Environment: BERTH_BUILD_COMMAND (a JSON array), BERTH_APP_DIR (where it runs), BERTH_VARIABLES_FILE. Ends with 0,
or with 1 after a `fail` line.
"""

import json
import os
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

# The programs are mounted read-only; writing bytecode would only fail.
sys.dont_write_bytecode = True

# Before anything keeps the output this process was started with.
if os.getpid() == 1:
    from berth_launcher import guard

    guard.start()

from berth_build import variables  # noqa: E402
from berth_launcher import command  # noqa: E402
from berth_launcher.report import Stopwatch, emit, fail  # noqa: E402


def main():
    """Copies, runs; every failure ends in one `fail` line."""
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    clock = Stopwatch()
    try:
        variables.load(os.environ)
        shutil.copytree("/source", "/app", symlinks=True, dirs_exist_ok=True)
        make_writable(Path("/app"))
        arguments = command.expand(json.loads(os.environ.pop("BERTH_BUILD_COMMAND")), {})
        environment = command.environment(os.environ)
        program = command.find(arguments[0], environment, os.environ["BERTH_APP_DIR"])
        if program is None:
            fail("command", "command_not_found", f"{arguments[0]} is not there", arguments[0])
        status = subprocess.call(
            arguments, executable=program, cwd=os.environ["BERTH_APP_DIR"], env=environment, stdin=subprocess.DEVNULL
        )
        if status:
            fail("command", "command_failed", f"it ended with status {status}", arguments[0])
        emit("command", ms=clock.lap())
        emit("done")
    except OSError as error:
        traceback.print_exc()
        code = "disk" if error.errno in (28, 122) else "command_failed"
        fail("command", code, f"{type(error).__name__}: {error}")


def make_writable(top):
    """Stored sources are read-only; their links stay as they are."""
    for directory, names, files in os.walk(top):
        for name in [".", *names, *files]:
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o777 | 0o600)


if __name__ == "__main__":
    main()
