"""The installed FastMCP client through every step, auth="oauth"; see flow.py.

usage: fastmcp_flow.py URL
"""

import asyncio
import sys

import fastmcp
import flow
from fastmcp import Client


async def main():
    progress, logs = [], []

    async def on_progress(done, total, _message):
        progress.append([done, total])

    async def on_log(message):
        logs.append(message.data["msg"])

    async def on_question(_message, answer, _parameters, _context):
        return answer(name=flow.NAME)

    client = Client(
        sys.argv[1],
        auth="oauth",
        progress_handler=on_progress,
        log_handler=on_log,
        elicitation_handler=on_question,
    )
    async with client:

        async def call(tool, **arguments):
            result = await client.call_tool(tool, arguments)
            return result.content[0].text

        flow.say("connect", client=f"fastmcp {fastmcp.__version__}")
        flow.say("list", tools=sorted(tool.name for tool in await client.list_tools()))
        flow.say("call", text=await call("add", a=40, b=2))
        text = await call("work", steps=3)
        flow.say("notifications", text=text, progress=progress, logs=logs)
        flow.say("input", text=await call("ask"))
        provider = client.transport.auth
        before = flow.forget_that_it_is_valid(provider)
        text = await call("add", a=1, b=1)
        flow.say("refresh", text=text, renewed=flow.renewed(provider, before))
        await flow.step_up(provider, call)
        commit = await call("commit")
        await flow.redeployed()
        flow.say("redeploy", before=commit, after=await call("commit"))


asyncio.run(main())
