# pip install "mcp>=2"
import asyncio

from mcp import Client
from mcp.client.sse import sse_client


async def main():
    async with Client(sse_client("https://project.example/mcp")) as client:
        for tool in (await client.list_tools()).tools:
            print(tool.name)


asyncio.run(main())
