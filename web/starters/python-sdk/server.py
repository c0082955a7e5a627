"""An MCP server with the low-level server of the official Python SDK: messages are answered one by one."""

import asyncio

from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

server = Server("Words")

COUNT = types.Tool(
    name="count_words",
    description="Count the words of a text.",
    inputSchema={
        "type": "object",
        "properties": {"text": {"type": "string", "description": "Any text."}},
        "required": ["text"],
    },
)


@server.list_tools()
async def list_tools() -> list[types.Tool]:
    return [COUNT]


@server.call_tool()
async def call_tool(name: str, arguments: dict) -> list[types.TextContent]:
    # Arguments were checked against the tool's schema before.
    if name != COUNT.name:
        raise ValueError(f"There is no tool {name}.")
    return [types.TextContent(type="text", text=str(len(arguments["text"].split())))]


async def main() -> None:
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(main())
