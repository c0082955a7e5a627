"""The official Python SDK 2.x client with its own OAuth through every step; see flow.py.

usage: sdk2_flow.py URL
"""

import asyncio
import importlib.metadata
import sys

import flow
import httpx2
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata
from mcp.types import ElicitResult


async def main():
    progress, logs = [], []

    async def on_progress(done, total, _message):
        progress.append([done, total])

    async def on_log(parameters):
        logs.append(parameters.data["msg"])

    async def on_question(_context, _parameters):
        return ElicitResult(action="accept", content={"name": flow.NAME})

    async def redirect(url):
        flow.open_in_browser(url)

    async def came_back():
        parameters = await callback.parameters()
        return AuthorizationCodeResult(**{name: parameters.get(name) for name in ("code", "state", "iss")})

    async with flow.Callback() as callback:
        metadata = OAuthClientMetadata(client_name="Python SDK 2", redirect_uris=[callback.url])
        provider = OAuthClientProvider(sys.argv[1], metadata, flow.Tokens(), redirect, came_back)
        async with (
            httpx2.AsyncClient(auth=provider, timeout=httpx2.Timeout(30, read=300)) as http,
            Client(
                streamable_http_client(sys.argv[1], http_client=http),
                logging_callback=on_log,
                log_level="info",
                elicitation_callback=on_question,
            ) as client,
        ):

            async def call(tool, **arguments):
                result = await client.call_tool(tool, arguments, progress_callback=on_progress)
                return result.content[0].text

            flow.say("connect", client=f"mcp {importlib.metadata.version('mcp')}", revision=client.protocol_version)
            flow.say("list", tools=sorted(tool.name for tool in (await client.list_tools()).tools))
            flow.say("call", text=await call("add", a=40, b=2))
            text = await call("work", steps=3)
            flow.say("notifications", text=text, progress=progress, logs=logs)
            flow.say("input", text=await call("ask"))
            before = flow.forget_that_it_is_valid(provider)
            text = await call("add", a=1, b=1)
            flow.say("refresh", text=text, renewed=flow.renewed(provider, before))
            await flow.step_up(provider, call)
            commit = await call("commit")
            await flow.redeployed()
            flow.say("redeploy", before=commit, after=await call("commit"))


asyncio.run(main())
