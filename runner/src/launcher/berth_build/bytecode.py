"""Compiles an environment's sources, reusing what earlier builds compiled.

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


def compile_all(environment, cache):
    """Compiles every source under `environment`; returns how many files there are and how many came from the cache."""
    store = cache / "bytecode" / importlib.util.MAGIC_NUMBER.hex()
    store.mkdir(parents=True, exist_ok=True)
    files = sorted(str(path) for path in environment.glob("lib/python3*/site-packages/**/*.py"))
    tasks = [(files[start : start + FILES_PER_TASK], str(store)) for start in range(0, len(files), FILES_PER_TASK)]
    workers = len(os.sched_getaffinity(0))
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        return len(files), sum(pool.map(_compile_some, tasks))


def _compile_some(task):
    files, store = task
    return sum(_compile_one(file, store) for file in files)


def _compile_one(file, store):
    """True when the bytecode was in the cache."""
    target = Path(importlib.util.cache_from_source(file))
    target.parent.mkdir(exist_ok=True)
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    kept = Path(store, digest[:2], digest[2:])
    with contextlib.suppress(FileNotFoundError):
        # The import system puts the right file name in when it loads.
        target.write_bytes(kept.read_bytes())
        return True
    try:
        py_compile.compile(
            file, str(target), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )
    except (py_compile.PyCompileError, ValueError):
        # Templates and sources for other Python versions are never imported here.
        return False
    kept.parent.mkdir(exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}")
    partial.write_bytes(target.read_bytes())
    partial.replace(kept)
    return False
