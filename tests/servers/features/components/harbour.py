"""Found by FileSystemProvider: nothing imports it, and it knows no server."""

from fastmcp.prompts import prompt
from fastmcp.resources import resource
from fastmcp.tools import tool


@tool
def berths() -> int:
    """How many ships fit."""
    return 12


@resource("data://tides")
def tides() -> str:
    return "high at noon"


@prompt
def hail(ship: str) -> str:
    return f"Ahoy, {ship}!"
