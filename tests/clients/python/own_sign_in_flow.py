"""The installed FastMCP client at a server with a sign-in of its own, auth="oauth"; see flow.py.

usage: own_sign_in_flow.py URL
"""

import asyncio
import sys

import fastmcp
import flow
from fastmcp import Client


async def main():
    client = Client(sys.argv[1], auth="oauth")
    async with client:

        async def call(tool):
            result = await client.call_tool(tool, {})
            return result.content[0].text

        flow.say("connect", client=f"fastmcp {fastmcp.__version__}")
        flow.say("list", tools=sorted(tool.name for tool in await client.list_tools()))
        flow.say("call", text=await call("who"))
        provider = client.transport.auth
        before = flow.forget_that_it_is_valid(provider)
        flow.say("refresh", text=await call("who"), renewed=flow.renewed(provider, before))
        commit = await call("commit")
        await flow.redeployed()
    # A connection of its own with what the client kept: nobody signs in again.
    async with client:
        flow.say("again", text=await call("who"), before=commit, after=await call("commit"))


asyncio.run(main())
