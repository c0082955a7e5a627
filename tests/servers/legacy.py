"""Every feature of the handshake revisions of MCP, each behind one tool; FastMCP 3, with sessions."""

import os
from dataclasses import dataclass

from fastmcp import Context, FastMCP
from fastmcp.server.event_store import EventStore

mcp = FastMCP("legacy")


@dataclass
class Person:
    name: str


@mcp.tool
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@mcp.tool
def commit() -> str:
    """Which commit this is."""
    return os.environ["BERTH_COMMIT"]


@mcp.tool
async def work(steps: int, ctx: Context) -> str:
    """Tells of its progress, and logs."""
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps)
        await ctx.info(f"step {step}")
    return "worked"


@mcp.tool
async def ask(ctx: Context) -> str:
    """Asks the person."""
    answer = await ctx.elicit("What is your name?", response_type=Person)
    return f"Hello, {answer.data.name}!" if answer.action == "accept" else answer.action


@mcp.tool
async def sample(ctx: Context) -> str:
    """Asks the client's model."""
    return (await ctx.sample("Say a word.")).text


@mcp.tool
def late() -> str:
    """Listed only in sessions that called `grow`."""
    return "late"


@mcp.tool
async def grow(ctx: Context) -> str:
    """Shows `late` to this session, and says that the list changed."""
    await ctx.enable_components(names={"late"})
    return "grown"


@mcp.tool
async def hang_up(ctx: Context) -> str:
    """Closes its own stream: the client learns the result only by resuming it (SEP-1699)."""
    await ctx.info("before")
    await ctx.close_sse_stream()
    await ctx.info("after")
    return "resumed"


mcp.disable(names={"late"})
# Its own application, because only that can be told of an event store.
app = mcp.http_app(path="/mcp", event_store=EventStore(), retry_interval=50)
