"""Fetches Debian packages and everything they depend on, and packs their files for an image above this one.

Run as `/usr/bin/python3 /berth/system.py` in a build container that knows nothing of the project. Reads
/run/berth/plan.json; writes the layer to /out/layer.tar and what was installed to /out/packages.txt. Nothing of a
package is run: neither here, nor its installation scripts. Ends with 0, or with 1 after a `fail` line.
"""

import os
import sys
import traceback

# The programs are mounted read-only; writing bytecode would only fail.
sys.dont_write_bytecode = True

from berth_build import apt, layer  # noqa: E402
from berth_build.tool import BuildFailure  # noqa: E402
from berth_launcher.report import Stopwatch, emit  # noqa: E402


def main():
    """Every failure ends in one `fail` line."""
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    total = Stopwatch()
    try:
        work = apt.Work.from_environment()
        archives = apt.download(work.packages(), work)
        layer.write(archives, work.out)
        emit("system", ms=total.lap())
        emit("done")
    except BuildFailure as failure:
        emit("fail", step=failure.step, code=failure.code, message=str(failure), package=failure.package)
        end()
    except OSError as error:
        traceback.print_exc()
        code = "disk" if error.errno in (28, 122) else "unknown"
        emit("fail", step="system", code=code, message=f"{type(error).__name__}: {error}", package=None)
        end()


def end():
    sys.stdout.flush()
    os._exit(1)


if __name__ == "__main__":
    main()
