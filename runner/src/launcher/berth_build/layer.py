"""From package archives to one tar archive of their files, as a layer above the image."""

import os
import subprocess
import tarfile

from .tool import BuildFailure

# Directories that are links into /usr in every image: a file below them belongs there.
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")

# What no server reads, as in the image itself.
LEFT_OUT = tuple(f"usr/share/{name}" for name in ("doc", "man", "info", "locale", "lintian", "bug"))

# What is the platform's, or no package's.
FOREIGN = ("app", "berth", "data", "dev", "env", "home", "out", "proc", "run", "sys", "tmp")


def write(archives, out):
    """Writes /out/layer.tar; what stands beside it is not needed any more."""
    seen = set()
    with tarfile.open(out / "layer.tar", "w", format=tarfile.GNU_FORMAT) as layer:
        for archive in archives:
            _add(archive, layer, seen)


def _add(archive, layer, seen):
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", os.fspath(archive)], stdout=subprocess.PIPE) as unpack:
        with tarfile.open(fileobj=unpack.stdout, mode="r|") as files:
            for member in files:
                if name := placed(member.name):
                    _copy(files, member, name, layer, seen)
    if unpack.returncode:
        raise BuildFailure("system", "system_failed", f"{archive.name} cannot be unpacked.")


def _copy(files, member, name, layer, seen):
    if member.isdir() and name in seen:
        return
    if not (member.isdir() or member.isreg() or member.issym() or member.islnk()):
        return
    seen.add(name)
    member.name = name
    if member.islnk():
        member.linkname = placed(member.linkname) or member.linkname
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    # No set-user-id programs, as in the image itself.
    member.mode &= 0o777
    member.pax_headers = {}
    layer.addfile(member, files.extractfile(member) if member.isreg() else None)


def placed(name):
    """Where a file of a package goes; None for what is left out."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or parts[0] in FOREIGN:
        return None
    if parts[0] in MERGED:
        if len(parts) == 1:
            return None
        parts.insert(0, "usr")
    path = "/".join(parts)
    return None if any(path == left or path.startswith(left + "/") for left in LEFT_OUT) else path
