# pip install fastmcp
import asyncio
import os

from fastmcp import Client


async def main():
    async with Client("https://project.example/mcp", auth=os.environ["MCP_TOKEN"]) as client:
        for tool in await client.list_tools():
            print(tool.name)


asyncio.run(main())
