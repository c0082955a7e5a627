"""A server that tells about itself: what it is called, where and how it runs."""

import importlib.metadata
import os
import sys

from fastmcp import FastMCP

mcp = FastMCP("about")


@mcp.tool
def about() -> dict:
    """Name, arguments, directory, Python, variables and packages."""
    return {
        "name": "NAME",
        "arguments": sys.argv[1:],
        "directory": os.getcwd(),
        "python": "%d.%d" % sys.version_info[:2],
        "variables": dict(os.environ),
        "packages": {found.name.lower(): found.version for found in importlib.metadata.distributions()},
    }
