"""One feature of revision 2026-07-28 with the official Python SDK 2.x client; prints one JSON line.

usage: modern_feature.py FEATURE URL, the token in TEST_ACCESS_TOKEN
"""

import asyncio
import json
import os
import sys

import flow
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ToolsListChanged
from mcp.types import ElicitResult


class Seen:
    """What reached the client besides results, and what it sent."""

    def __init__(self):
        self.questions, self.logs, self.progress, self.sent = [], [], [], []

    async def on_question(self, _context, parameters):
        self.questions.append(parameters.message)
        return ElicitResult(action="accept", content={"name": flow.NAME})

    async def on_log(self, parameters):
        self.logs.append(parameters.data["msg"])

    async def on_progress(self, done, total, _message):
        self.progress.append([done, total])

    async def on_request(self, request):
        self.sent.append([request.method, request.headers.get("mcp-method")])


async def mrtr(_client, call, seen):
    text = await call("ask")
    return {"text": text, "questions": seen.questions, "calls": seen.sent.count(["POST", "tools/call"])}


async def progress(_client, call, seen):
    return {"text": await call("work", steps=3), "progress": seen.progress}


async def log(_client, call, seen):
    return {"text": await call("work", steps=3), "logs": seen.logs}


async def subscriptions_listen(client, call, seen):
    async with client.listen(tools_list_changed=True) as subscription:
        await call("test_trigger_tool_change")
        event = await asyncio.wait_for(anext(aiter(subscription)), 30)
    listens = seen.sent.count(["POST", "subscriptions/listen"])
    return {"changed": isinstance(event, ToolsListChanged), "listens": listens}


async def main():
    feature, url, seen = sys.argv[1], sys.argv[2], Seen()
    headers = {"authorization": f"Bearer {os.environ['TEST_ACCESS_TOKEN']}"}
    async with (
        httpx2.AsyncClient(headers=headers, event_hooks={"request": [seen.on_request]}, timeout=60) as http,
        Client(
            streamable_http_client(url, http_client=http),
            logging_callback=seen.on_log,
            log_level="info",
            elicitation_callback=seen.on_question,
        ) as client,
    ):

        async def call(tool, **arguments):
            result = await client.call_tool(tool, arguments, progress_callback=seen.on_progress)
            return result.content[0].text

        saw = await globals()[feature](client, call, seen)
        revision = client.protocol_version
    print(json.dumps({"revision": revision, **saw}))


asyncio.run(main())
