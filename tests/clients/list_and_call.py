"""Lists the tools and calls one with an access token, through the installed fastmcp client.

usage: list_and_call.py URL TOOL ARGUMENTS-JSON, the token in TEST_ACCESS_TOKEN
"""

import asyncio
import json
import os
import sys

from fastmcp import Client
from fastmcp.client.auth import BearerAuth


async def main() -> None:
    url, tool, arguments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    token = os.environ["TEST_ACCESS_TOKEN"]
    async with Client(url, auth=BearerAuth(token)) as client:
        tools = [tool.name for tool in await client.list_tools()]
        result = await client.call_tool(tool, arguments, raise_on_error=False)
        text = [block.text for block in result.content if block.type == "text"]
    print(json.dumps({"tools": tools, "text": text, "is_error": result.is_error}))


asyncio.run(main())
