"""A small MCP server with FastMCP: one tool, and a greeting that a variable changes."""

import os

from fastmcp import FastMCP

mcp = FastMCP("Hello")


@mcp.tool
def greet(name: str) -> str:
    """Greet somebody by name."""
    return f"{os.environ.get('GREETING', 'Hello')}, {name}!"


if __name__ == "__main__":
    mcp.run()
