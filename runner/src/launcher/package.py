"""Runs the program of an installed package: `package.py pypi|npm NAME [PROGRAM [ARGUMENT…]]`.

For servers that come from a package registry and have no source of their own. Without PROGRAM it is the package's only
program, or the one of its own name. This process becomes the program; a failure ends in one `fail` line and exit 1.
"""

import importlib.metadata
import json
import os
import sys
from pathlib import Path

sys.dont_write_bytecode = True
# What the package imports is the environment's, never a file beside this one.
HERE = os.path.dirname(os.path.abspath(__file__))

from berth_launcher.report import emit  # noqa: E402

ENVIRONMENT = Path("/env")


def main():
    registry, name, *words = sys.argv[1:]
    programs = {"pypi": _python_programs, "npm": _node_programs}[registry](name)
    short = name.rpartition("/")[2]
    if words and words[0] not in programs:
        fail(f"{name} has no program {words[0]}; it has {_list(programs)}. Write the program first, then its arguments.")
    if not words and not programs:
        fail(f"{name} has no program to run, so it is a library; choose a package that is a server.")
    if not words and len(programs) > 1 and short not in programs:
        fail(f"{name} has several programs ({_list(programs)}); set the entrypoint to the one to run.")
    chosen = words[0] if words else short if short in programs else next(iter(programs))
    command = [*programs[chosen], *words[1:]]
    os.execv(command[0], command)


def _python_programs(name):
    """The console scripts of a distribution, as commands."""
    [packages] = ENVIRONMENT.glob("lib/python3*/site-packages")
    found = next(iter(importlib.metadata.distributions(name=name, path=[str(packages)])), None)
    scripts = found.entry_points if found else ()
    return {
        script.name: [str(ENVIRONMENT / "bin" / script.name)]
        for script in scripts
        if script.group == "console_scripts" and (ENVIRONMENT / "bin" / script.name).is_file()
    }


def _node_programs(name):
    """The `bin` of a package, as commands."""
    directory = ENVIRONMENT / "node_modules" / name
    try:
        declared = json.loads((directory / "package.json").read_text(encoding="utf-8")).get("bin") or {}
    except (OSError, ValueError, AttributeError) as error:
        fail(f"package.json of {name} cannot be read: {error}")
    if isinstance(declared, str):
        declared = {name.rpartition("/")[2]: declared}
    return {
        program: ["/usr/local/bin/node", str(directory / file)]
        for program, file in declared.items()
        if isinstance(file, str) and (directory / file).is_file()
    }


def _list(names):
    return ", ".join(sorted(names)) or "none"


def fail(message):
    """Why nothing runs, for the log and for the runner."""
    print(message, file=sys.stderr, flush=True)
    emit("fail", step="entrypoint", exception=None, message=message)
    sys.exit(1)


if __name__ == "__main__":
    main()
