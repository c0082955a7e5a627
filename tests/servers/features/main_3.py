"""FastMCP 3: what it has of 2, what came with it, and state of MCP sessions."""

import os

import handshake  # noqa: F401
import httpx
import later
from common import mcp, released, stock
from fastmcp import Context

later.add_stock(httpx.AsyncClient(transport=httpx.ASGITransport(stock), base_url="http://stock.internal"))


@mcp.tool(task=True)
async def long_work(ctx: Context) -> str:
    """Works until it is released by another call."""
    await ctx.report_progress(1, 2, "begun")
    await released()
    return "done in the background"


@mcp.tool
async def prefer(value: str, ctx: Context) -> str:
    """State of the MCP session: the next call finds it, another session does not."""
    found = await ctx.get_state("preference")
    await ctx.set_state("preference", value)
    return f"{found}, now {await ctx.get_state('preference')}"


if "REDIS_URL" in os.environ:
    import in_redis  # noqa: F401
