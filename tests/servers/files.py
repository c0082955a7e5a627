"""Writes what it is told to, and tries to reach what it should not."""

import errno
import os
import socket

from fastmcp import FastMCP

mcp = FastMCP("files")


@mcp.tool
def write(name: str, mebibytes: int) -> str:
    """Writes a file into /data, as far as it gets."""
    written = 0
    try:
        with open(f"/data/{name}", "wb", buffering=0) as file:
            for _ in range(mebibytes):
                written += file.write(b"x" * (1 << 20))
            os.fsync(file.fileno())
    except OSError as error:
        return f"<{errno.errorcode[error.errno]} after {written >> 20}>"
    return f"<wrote {written >> 20}>"


@mcp.tool
def sizes() -> str:
    """The files in /data."""
    with os.scandir("/data") as found:
        files = sorted(f"{entry.name}={entry.stat().st_size >> 20}" for entry in found if entry.is_file())
    return f"<{' '.join(files)}>"


@mcp.tool
def remove(name: str) -> str:
    """Removes a file."""
    os.remove(f"/data/{name}")
    return "<removed>"


@mcp.tool
def reach(host: str, port: int) -> str:
    """Whether something answers there."""
    try:
        socket.create_connection((host, port), 2).close()
    except OSError as error:
        return f"<no: {type(error).__name__}>"
    return "<reached>"
