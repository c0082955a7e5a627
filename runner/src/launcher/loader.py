"""Writes the cache in which programs look libraries up, for an image that got new ones.

Run as `/usr/bin/python3 /berth/loader.py` in a build container of that image; writes /out/layer.tar.
"""

import subprocess
import sys
import tarfile
from pathlib import Path

# The programs are mounted read-only; writing bytecode would only fail.
sys.dont_write_bytecode = True

from berth_launcher.report import emit  # noqa: E402


def main():
    out = Path("/out")
    cache = out / "ld.so.cache"
    # -X: the packages bring their links; -i: the other cache is not to be written either.
    subprocess.run(["/sbin/ldconfig", "-X", "-i", "-C", str(cache)], check=True, stdin=subprocess.DEVNULL)
    with tarfile.open(out / "layer.tar", "w", format=tarfile.GNU_FORMAT) as layer:
        member = layer.gettarinfo(cache, "etc/ld.so.cache")
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mode = 0o644
        with cache.open("rb") as file:
            layer.addfile(member, file)
    emit("done")


if __name__ == "__main__":
    main()
