"""Compiles an environment's sources, once for all environments that have the same.

Instances mount the environment read-only, so bytecode that is missing would be made anew at every start. The files are
hash-based and unchecked (PEP 552): nothing that happens to time stamps on the way to the mount makes them stale.
"""

import concurrent.futures
import contextlib
import hashlib
import importlib.util
import os
import py_compile
from pathlib import Path

# Small enough to spread evenly, large enough that handing them out costs nothing.
FILES_PER_TASK = 64

# How such a file begins: this Python's number, and the flag for a hash that is not looked at.
COMPILED = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little")


def compile_all(environment, cache):
    """Compiles every source under `environment`, reusing what earlier builds of the project compiled; returns how many
    files there are and how many needed no compiling."""
    store = cache / "bytecode" / importlib.util.MAGIC_NUMBER.hex()
    store.mkdir(parents=True, exist_ok=True)
    files = sources(environment)
    return len(files), sum(_in_parallel(_compile_some, files, str(store)))


def compile_shared(environment, wheels):
    """Compiles what is not compiled yet of an environment made of links into the store `wheels`, and links the result
    beside the sources there: the next environment gets both. Returns how many files were compiled."""
    files = [file for file in sources(environment) if not is_compiled(file)]
    made = [file for some in _in_parallel(_compile_new, files) for file in some]
    _give_back(made, wheels)
    return len(made)


def sources(environment):
    """Every source file of the installed packages. One that is called just `.py` can be imported by no name, and its
    bytecode would take the place of that of a `py.py` beside it, which may be another wheel's."""
    found = environment.glob("lib/python3*/site-packages/**/*.py")
    return sorted(str(path) for path in found if path.name != ".py")


def is_compiled(file):
    """Whether there is bytecode that will be loaded. What a wheel brings by itself goes by time stamps and is stale."""
    try:
        with open(importlib.util.cache_from_source(file), "rb") as compiled:
            return compiled.read(len(COMPILED)) == COMPILED
    except OSError:
        return False


def _in_parallel(work, files, *more):
    """Yields what `work` makes of some of the files at a time, on all cores."""
    tasks = [(files[start : start + FILES_PER_TASK], *more) for start in range(0, len(files), FILES_PER_TASK)]
    if not tasks:
        return
    workers = min(len(os.sched_getaffinity(0)), len(tasks))
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        yield from pool.map(work, tasks)


def _compile_new(task):
    [files] = task
    return [file for file in files if _compile(file)]


def _compile_some(task):
    files, store = task
    return sum(_compile_one(file, store) for file in files)


def _compile_one(file, store):
    """True when nothing had to be compiled."""
    if is_compiled(file):
        return True
    target = Path(importlib.util.cache_from_source(file))
    target.parent.mkdir(exist_ok=True)
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    kept = Path(store, digest[:2], digest[2:])
    with contextlib.suppress(FileNotFoundError):
        # The import system puts the right file name in when it loads.
        target.write_bytes(kept.read_bytes())
        return True
    if _compile(file):
        kept.parent.mkdir(exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}")
        partial.write_bytes(target.read_bytes())
        partial.replace(kept)
    return False


def _compile(file):
    """Whether it can be compiled: templates and sources for other Python versions are never imported here."""
    try:
        py_compile.compile(file, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    except (py_compile.PyCompileError, ValueError):
        return False
    return True


def _give_back(made, wheels):
    """Links bytecode beside the sources that the environment's are links to."""
    wanted = {os.stat(file).st_ino: file for file in made}
    for archive in _newest_first(wheels):
        if not wanted:
            return
        for directory, _, files in os.walk(archive):
            for file in files:
                source = os.path.join(directory, file)
                if file.endswith(".py") and (environments := wanted.pop(os.stat(source).st_ino, None)):
                    _link(importlib.util.cache_from_source(environments), importlib.util.cache_from_source(source))


def _newest_first(wheels):
    """The unpacked wheels of uv's cache: what has just come has most of what was just compiled."""
    archives = [entry for bucket in wheels.glob("archive-v*") for entry in os.scandir(bucket) if entry.is_dir()]
    return [entry.path for entry in sorted(archives, key=lambda entry: entry.stat().st_mtime, reverse=True)]


def _link(compiled, beside):
    """Another environment's job may do the same at the same time."""
    os.makedirs(os.path.dirname(beside), exist_ok=True)
    partial = f"{beside}.{os.getpid()}"
    os.link(compiled, partial)
    os.replace(partial, beside)
