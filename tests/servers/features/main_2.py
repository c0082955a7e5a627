"""FastMCP 2: what its own names are."""

import os

import handshake  # noqa: F401
import httpx
from common import SPEC, backend, mcp, released, stock
from fastmcp import FastMCP
from fastmcp.dependencies import Progress
from fastmcp.server.openapi import MCPType, RouteMap


@mcp.tool(task=True)
async def long_work(progress: Progress = Progress()) -> str:
    """Works until it is released by another call; a task has no context here."""
    await progress.set_total(2)
    await progress.increment()
    await released()
    return "done in the background"


client = httpx.AsyncClient(transport=httpx.ASGITransport(stock), base_url="http://stock.internal")
maps = [
    RouteMap(methods=["GET"], pattern=r".*\{.*\}.*", mcp_type=MCPType.RESOURCE_TEMPLATE),
    RouteMap(methods=["GET"], mcp_type=MCPType.RESOURCE),
]
mcp.mount(FastMCP.from_openapi(SPEC, client, route_maps=maps), "stock")
mcp.mount(FastMCP.as_proxy(backend), "behind")

if "REDIS_URL" in os.environ:
    import in_redis  # noqa: F401
