"""Commands that a project sets: found and run without a shell."""

import os
import re
import shutil

# Where the environment's programs are; in front of the image's.
PROGRAMS = "/env/bin"


def expand(arguments, values):
    """Replaces `$NAME` and `${NAME}` of the given names alone: there is no shell that would."""
    names = "|".join(map(re.escape, values))
    if not names:
        return list(arguments)
    pattern = re.compile(rf"\$(?:\{{({names})\}}|({names})\b)")
    return [pattern.sub(lambda match: values[match[1] or match[2]], argument) for argument in arguments]


def environment(own):
    """The environment of such a command."""
    path = own.get("PATH") or "/usr/local/bin:/usr/bin:/bin"
    return {**own, "PATH": f"{PROGRAMS}:{path}", "VIRTUAL_ENV": os.path.dirname(PROGRAMS)}


def find(program, environment, directory):
    """The program's path: as written below `directory` where it has a slash, on the PATH otherwise; None when missing."""
    if "/" in program:
        path = os.path.join(directory, program)
        return path if os.access(path, os.X_OK) and os.path.isfile(path) else None
    return shutil.which(program, path=environment["PATH"])
