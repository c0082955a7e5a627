"""Runs the program of an installed package: `package.py pypi|npm NAME [PROGRAM [ARGUMENT…]]`.

For servers that come from a package registry and have no source of their own. Without PROGRAM it is the package's only
program, or the one of its own name. This process becomes the program; a failure ends in one `fail` line and exit 1.
"""

import importlib.metadata
import json
import os
import re
import sys
from pathlib import Path

sys.dont_write_bytecode = True

from berth_launcher.report import emit  # noqa: E402

# Only tests give another one.
ENVIRONMENT = Path(os.environ.get("BERTH_ENV_DIR") or "/env")
NODE = "/usr/local/bin/node"


def main():
    registry, name, *words = sys.argv[1:]
    programs = {"pypi": _python_programs, "npm": _node_programs}[registry](name)
    own = next((program for program in programs if _normal(program) == _normal(name.rpartition("/")[2])), None)
    if words and words[0] not in programs:
        fail(f"{name} has no program {words[0]}; it has {_list(programs)}. Write the program first, then its arguments.")
    if not words and not programs:
        fail(f"{name} has no program to run, so it is a library; choose a package that is a server.")
    if not words and len(programs) > 1 and own is None:
        fail(f"{name} has several programs ({_list(programs)}); set the entrypoint to the one to run.")
    chosen = words[0] if words else own or next(iter(programs))
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
        program: [NODE, str(directory / file)]
        for program, file in declared.items()
        if isinstance(file, str) and (directory / file).is_file()
    }


def _normal(name):
    """A name as registries compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _list(names):
    return ", ".join(sorted(names)) or "none"


def fail(message):
    """Why nothing runs, for the log and for the runner."""
    print(message, file=sys.stderr, flush=True)
    emit("fail", step="entrypoint", exception=None, message=message)
    sys.exit(1)


if __name__ == "__main__":
    main()
