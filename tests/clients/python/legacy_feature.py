"""One feature of the handshake revisions with the official Python SDK 1.x client; prints one JSON line.

usage: legacy_feature.py FEATURE URL, the token in TEST_ACCESS_TOKEN
"""

import asyncio
import json
import os
import sys

import flow
import httpx
from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client


class Seen:
    """What reached the client besides the answers to its own requests."""

    def __init__(self):
        self.questions, self.prompts, self.logs, self.progress, self.resumed = [], [], [], [], []
        self.list_changed = asyncio.Event()

    async def on_question(self, _context, parameters):
        self.questions.append(parameters.message)
        return types.ElicitResult(action="accept", content={"name": flow.NAME})

    async def on_prompt(self, _context, parameters):
        self.prompts.append(parameters.messages[0].content.text)
        content = types.TextContent(type="text", text="berth")
        return types.CreateMessageResult(role="assistant", content=content, model="none")

    async def on_log(self, parameters):
        self.logs.append(parameters.data["msg"])

    async def on_progress(self, done, total, _message):
        self.progress.append([done, total])

    async def on_message(self, message):
        if isinstance(getattr(message, "root", None), types.ToolListChangedNotification):
            self.list_changed.set()

    async def on_request(self, request):
        if after := request.headers.get("last-event-id"):
            self.resumed.append([request.method, after])


async def elicitation(call, _session, seen):
    return {"text": await call("ask"), "questions": seen.questions}


async def sampling(call, _session, seen):
    return {"text": await call("sample"), "prompts": seen.prompts}


async def progress(call, _session, seen):
    return {"text": await call("work", steps=3), "progress": seen.progress}


async def log(call, _session, seen):
    return {"text": await call("work", steps=3), "logs": seen.logs}


async def list_changed(call, session, seen):
    async def listed():
        return "late" in [tool.name for tool in (await session.list_tools()).tools]

    before = await listed()
    await call("grow")
    await asyncio.wait_for(seen.list_changed.wait(), 30)
    return {"before": before, "after": await listed(), "text": await call("late")}


async def resumable_sse(call, _session, seen):
    text = await call("hang_up")
    return {"text": text, "logs": seen.logs, "resumed": [method for method, _ in seen.resumed]}


async def main():
    feature, url, seen = sys.argv[1], sys.argv[2], Seen()
    headers = {"authorization": f"Bearer {os.environ['TEST_ACCESS_TOKEN']}"}
    async with (
        httpx.AsyncClient(headers=headers, event_hooks={"request": [seen.on_request]}, timeout=60) as http,
        streamable_http_client(url, http_client=http) as (read, write, _),
        ClientSession(
            read,
            write,
            sampling_callback=seen.on_prompt,
            elicitation_callback=seen.on_question,
            logging_callback=seen.on_log,
            message_handler=seen.on_message,
        ) as session,
    ):

        async def call(tool, **arguments):
            result = await session.call_tool(tool, arguments, progress_callback=seen.on_progress)
            return result.content[0].text

        opened = await session.initialize()
        saw = await globals()[feature](call, session, seen)
    print(json.dumps({"revision": opened.protocolVersion, **saw}))


asyncio.run(main())
