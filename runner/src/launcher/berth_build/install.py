"""From a lock to an environment: a virtual environment at its final path, with the locked packages in it."""

import tempfile
from pathlib import Path

from . import resolve
from .tool import uv


def install(lock, places, python, is_begun=False):
    """Makes the environment, unless it is begun, and installs what is missing of the lock; every hash that the lock
    holds is checked."""
    if not is_begun:
        make = ["venv", "--quiet", "--no-project", "--python", python, "--", str(places.environment)]
        uv("install", make, "/", places.cache)
    interpreter = str(places.environment / "bin/python")
    with tempfile.TemporaryDirectory() as scratch:
        locked = Path(scratch, "lock.txt")
        locked.write_text(lock, encoding="utf-8")
        if resolve.pinned(lock):
            arguments = ["pip", "install", "--no-deps", "--python", interpreter]
            # A package from a Git repository has no hash, and one without would refuse all.
            arguments += ["--require-hashes"] if fully_hashed(lock) else ["--verify-hashes"]
            uv("install", [*arguments, "--requirements", str(locked)], scratch, places.cache)
    if local := resolve.notes(lock, "local"):
        source = resolve.copy_source(places.app)
        paths = [str(source / path) for path, _ in local]
        uv("install", ["pip", "install", "--no-deps", "--python", interpreter, "--", *paths], source, places.cache)
    for name, version in resolve.notes(lock, "project"):
        write_metadata(places.environment, name, version)


def fully_hashed(lock):
    """Whether every pinned package has at least one hash."""
    bare, current = 0, None
    for line in lock.splitlines():
        if line[:1].isalnum():
            bare += current is False
            current = "--hash=" in line
        elif "--hash=" in line:
            current = True
    return not bare and current is not False


def write_metadata(environment, name, version):
    """Many packages ask `importlib.metadata` for their own version when imported; the project's code is not installed,
    so its name and version stand here."""
    [packages] = environment.glob("lib/python3*/site-packages")
    plain = name.replace("-", "_").replace(".", "_").lower()
    if any(packages.glob(f"{plain}-*.dist-info")):
        return
    directory = packages / f"{plain}-{version}.dist-info"
    directory.mkdir()
    (directory / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    (directory / "INSTALLER").write_text("berth\n", encoding="utf-8")
