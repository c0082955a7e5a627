# pip install fastmcp
import asyncio

from fastmcp import Client


async def main():
    async with Client("https://project.example/mcp", auth="oauth") as client:
        for tool in await client.list_tools():
            print(tool.name)


asyncio.run(main())
