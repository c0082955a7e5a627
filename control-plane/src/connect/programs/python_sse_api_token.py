# pip install "mcp>=2"
import asyncio
import os

from mcp import Client
from mcp.client.sse import sse_client

URL = "https://project.example/mcp"


async def main():
    headers = {"Authorization": f"Bearer {os.environ['MCP_TOKEN']}"}
    async with Client(sse_client(URL, headers=headers)) as client:
        for tool in (await client.list_tools()).tools:
            print(tool.name)


asyncio.run(main())
