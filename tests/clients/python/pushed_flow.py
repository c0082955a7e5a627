"""The installed FastMCP client at a server whose tools change with a push, auth="oauth"; see flow.py.

usage: pushed_flow.py URL
"""

import asyncio
import sys

import flow
from fastmcp import Client


async def main():
    client = Client(sys.argv[1], auth="oauth")

    async def use():
        async with client:
            tools = sorted(tool.name for tool in await client.list_tools())
            result = await client.call_tool(tools[0], {})
            return {"tools": tools, "text": result.content[0].text}

    flow.say("before", **await use())
    await flow.redeployed()
    flow.say("after", **await use())


asyncio.run(main())
