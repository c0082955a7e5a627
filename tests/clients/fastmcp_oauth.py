"""Connects with the installed fastmcp client, auth="oauth"; prints one JSON line.

usage: fastmcp_oauth.py URL TOOL ARGUMENTS-JSON

The browser is whatever BROWSER names; see open_url.py beside this file.
"""

import asyncio
import json
import sys

import fastmcp
from fastmcp import Client


async def main() -> None:
    url, tool, arguments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    async with Client(url, auth="oauth") as client:
        tools = [tool.name for tool in await client.list_tools()]
        result = await client.call_tool(tool, arguments)
        text = [block.text for block in result.content if block.type == "text"]
    print(json.dumps({"version": fastmcp.__version__, "tools": tools, "text": text}))


asyncio.run(main())
