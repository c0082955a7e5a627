"""Builds a Node project inside the build container and reports each phase.

Run as `/usr/bin/python3 /berth/node.py`. Reads /run/berth/plan.json. Stage `dependencies` reads the source at /app and
installs to /env: `node_modules` to run with and, where the code is built, `build/node_modules` to build with.
Stage `app` reads the source at /source, builds a copy of it at /app, and finds the packages at /env. Both write what
the result stands for to /out/lock.txt, and keep downloads in /cache. Ends with 0, or with 1 after a `fail` line. The
output of the tools goes through to the build log as it is.
"""

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

from berth_build import variables  # noqa: E402
from berth_build.tool import BuildFailure  # noqa: E402
from berth_launcher.report import Stopwatch, emit, fail  # noqa: E402
from berth_node import plan, tree  # noqa: E402
from berth_node.installers import Installer  # noqa: E402

# Ends the line before the installer's own lock in /out/lock.txt.
HEAD = "# berth:node "


def main():
    """Runs the stage; every failure ends in one `fail` line."""
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        variables.load(os.environ)
        places = plan.Places.from_environment()
        wanted = plan.read(places.plan)
        total = Stopwatch()
        {"dependencies": dependencies, "app": app}[wanted.stage](wanted, places, total)
    except BuildFailure as failure:
        fail(failure.step, failure.code, str(failure), failure.package)
    except OSError as error:
        traceback.print_exc()
        fail("install", "disk" if error.errno in (28, 122) else "unknown", f"{type(error).__name__}: {error}")
    except Exception as error:
        traceback.print_exc()
        fail("install", "unknown", f"{type(error).__name__}: {error}")


def dependencies(wanted, places, total):
    """Installs what is declared, apart from the code."""
    clock = Stopwatch()
    source = places.app / wanted.directory
    lock = _lock(wanted, source)
    installer = Installer(wanted, places)
    installer.prepare()
    to_run, to_build = places.environment, places.environment / "build"
    # Without devDependencies that go, the packages to build with are those to run with.
    are_apart = wanted.builds and not wanted.keep_dev
    first = to_build if are_apart else to_run
    tree.write_declaration(source, first, wanted.lock_file, lock)
    production = not wanted.builds and not wanted.keep_dev
    if lock is None:
        installer.install(first, production, frozen=False, step="resolve")
        lock = (first / wanted.lock_file).read_text(encoding="utf-8")
        emit("resolve", ms=clock.lap())
    elif _record(wanted, HEAD + wanted.mark + "\n" + lock, places):
        emit("done", ms=total.lap(), reused=True)
        return
    else:
        installer.install(first, production, frozen=True)
    if are_apart:
        tree.write_declaration(source, to_run, wanted.lock_file, lock)
        installer.install(to_run, True, frozen=True)
        tree.remove_declaration(to_build, wanted.lock_file)
    tree.remove_declaration(to_run, wanted.lock_file)
    if wanted.builds and not are_apart:
        to_build.mkdir()
        (to_build / "node_modules").symlink_to("../node_modules")
    emit("install", ms=clock.lap())
    _record(wanted, HEAD + wanted.mark + "\n" + lock, places)
    emit("done", ms=total.lap(), reused=False)


def app(wanted, places, total):
    """Builds a copy of the source with the packages that were installed before, or with its own."""
    clock = Stopwatch()
    tree.copy_source(places.source, places.app)
    directory = places.app / wanted.directory
    installer = Installer(wanted, places)
    installer.prepare()
    if wanted.in_place:
        installer.install(directory, False, frozen=wanted.has_lock)
        emit("install", ms=clock.lap())
    else:
        tree.link_packages(places.environment / "build/node_modules", directory)
    if wanted.command:
        installer.command(wanted.command, directory)
        emit("command", ms=clock.lap())
    elif wanted.script:
        installer.script(wanted.script, directory)
        emit("compile", ms=clock.lap())
    if not wanted.in_place:
        tree.link_for_running(places.environment, directory)
    elif wanted.installer == "npm" and not wanted.keep_dev:
        installer.prune(directory)
    (places.out / "lock.txt").write_text(wanted.mark + "\n", encoding="utf-8")
    emit("done", ms=total.lap(), reused=False)


def _lock(wanted, source):
    """The installer's lock: the source's, or the one that an earlier build made of the same declaration."""
    if wanted.has_lock:
        return (source / wanted.lock_file).read_text(encoding="utf-8")
    if wanted.lock is not None:
        return wanted.lock.partition("\n")[2]
    return None


def _record(wanted, text, places):
    """Writes what the result stands for; says whether it exists already."""
    (places.out / "lock.txt").write_text(text, encoding="utf-8")
    return hashlib.sha256(text.encode()).hexdigest() in wanted.known


if __name__ == "__main__":
    main()
