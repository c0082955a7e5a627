"""What FastMCP 2 and 3 have alike, and 4 does not: the server sends requests of its own, and copies of servers."""

import asyncio
from dataclasses import dataclass

from common import mcp
from fastmcp import Context, FastMCP
from fastmcp.server.middleware.tool_injection import PromptToolMiddleware, ResourceToolMiddleware

mcp.add_middleware(PromptToolMiddleware())
mcp.add_middleware(ResourceToolMiddleware())


@dataclass
class Person:
    name: str


@mcp.tool
async def greet(ctx: Context) -> str:
    """Asks the person."""
    answer = await ctx.elicit("What is your name?", response_type=Person)
    return f"Hello, {answer.data.name}!" if answer.action == "accept" else answer.action


@mcp.tool
async def sample(ctx: Context) -> str:
    """Asks the client's model."""
    return (await ctx.sample("Say a word.", system_prompt="Be brief.", max_tokens=16)).text


def price(item: str) -> int:
    """What an item costs."""
    return len(item)


@mcp.tool
async def sample_with_tools(ctx: Context) -> str:
    """Lets the client's model call a function here until it has its answer."""
    return (await ctx.sample("What does an anchor cost?", tools=[price])).text


copied = FastMCP("copied")


@copied.tool
def early() -> str:
    return "early"


# It is asynchronous, and modules are imported outside of any loop.
asyncio.run(mcp.import_server(copied, "copied"))


@mcp.tool
def grow_the_copied() -> str:
    """Adds a tool to a server that was copied: the copy does not have it."""

    @copied.tool
    def later() -> str:
        return "later"

    return "grown"
