# pip install "mcp>=2"
import asyncio

from mcp import Client


async def main():
    async with Client("https://project.example/mcp") as client:
        for tool in (await client.list_tools()).tools:
            print(tool.name)


asyncio.run(main())
