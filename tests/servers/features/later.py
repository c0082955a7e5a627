"""What came with FastMCP 3: providers, transforms, versions of a component, timeouts."""

import asyncio
from pathlib import Path

from common import SPEC, backend, mcp
from fastmcp import Client, FastMCP
from fastmcp.server.providers import FileSystemProvider
from fastmcp.server.providers.openapi import MCPType, OpenAPIProvider, RouteMap
from fastmcp.server.providers.proxy import ProxyProvider
from fastmcp.server.providers.skills import SkillsDirectoryProvider
from fastmcp.server.transforms import Namespace, PromptsAsTools, ResourcesAsTools, VersionFilter

HERE = Path(__file__).parent

mcp.add_provider(ProxyProvider(lambda: Client(backend)), namespace="behind")
mcp.add_provider(FileSystemProvider(HERE / "components"))
mcp.add_provider(SkillsDirectoryProvider(HERE / "skills"))


def add_stock(client):
    """The API behind the specification, in both ways; the client's package has two names."""
    maps = [
        RouteMap(methods=["GET"], pattern=r".*\{.*\}.*", mcp_type=MCPType.RESOURCE_TEMPLATE),
        RouteMap(methods=["GET"], mcp_type=MCPType.RESOURCE),
    ]
    mcp.mount(FastMCP.from_openapi(SPEC, client, route_maps=maps), "stock")
    mcp.add_provider(OpenAPIProvider(SPEC, client), namespace="provided")


@mcp.tool(version="1.0")
def quote() -> str:
    return "the first quote"


@mcp.tool(version="2.0", name="quote")
def quote_2() -> str:
    return "the second quote"


old = FastMCP("old")


@old.tool(version="1.0")
def tax() -> str:
    return "old tax"


@old.tool(version="2.0", name="tax")
def tax_2() -> str:
    return "new tax"


old.add_transform(VersionFilter(version_lt="2.0"))
old.add_transform(Namespace("past"))
mcp.mount(old)

shelf = FastMCP("shelf")


@shelf.resource("data://note")
def note() -> str:
    return "a note"


@shelf.prompt
def summarize(text: str) -> str:
    return f"Summarize {text}."


shelf.add_transform(ResourcesAsTools(shelf))
shelf.add_transform(PromptsAsTools(shelf))
mcp.mount(shelf, "shelf")


@mcp.tool(timeout=0.1)
async def never() -> str:
    """Takes longer than it may."""
    await asyncio.Event().wait()
