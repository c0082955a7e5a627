"""A small MCP server: two tools, a resource and a prompt."""

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError

mcp = FastMCP("Hello")


@mcp.tool
def greet(name: str) -> str:
    """Greet somebody by name."""
    return f"Hello, {name}!"


@mcp.tool
def time_in(zone: str) -> str:
    """Tell the time in a zone such as Europe/Vienna."""
    try:
        return datetime.now(ZoneInfo(zone)).strftime("%A, %H:%M")
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ToolError(f"There is no time zone {zone!r}; try one like Europe/Vienna.") from error


@mcp.resource("hello://languages")
def languages() -> dict[str, str]:
    """How to say hello in a few languages."""
    return {"de": "Hallo", "en": "Hello", "es": "Hola", "fr": "Bonjour", "sw": "Habari"}


@mcp.prompt
def welcome(name: str) -> str:
    """Ask for a warm welcome."""
    return f"Welcome {name} in two friendly sentences and ask what they would like to build."
