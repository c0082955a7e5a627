"""Uses a bridged stdio server as a client does; prints what it saw as one JSON document."""

import asyncio
import json
import os
import sys

from fastmcp import Client
from fastmcp.client.auth import BearerAuth


async def main():
    saw = {"progress": []}

    async def progress(done, total, message):
        saw["progress"].append([done, total])

    async def answer(message, response_type, params, context):
        return {"name": "Ada"}

    def client():
        auth = BearerAuth(os.environ["TEST_ACCESS_TOKEN"])
        return Client(sys.argv[1], auth=auth, progress_handler=progress, elicitation_handler=answer)

    async def text(one, tool, **arguments):
        return (await one.call_tool(tool, arguments)).content[0].text

    async with client() as one, client() as two:
        saw["sum"] = await text(one, "add", a=20, b=22)
        saw["same"] = await text(one, "process") == await text(one, "process")
        saw["apart"] = await text(one, "process") != await text(two, "process")
        saw["counted"] = await text(one, "count", to=3)
        saw["asked"] = await text(one, "ask")
        saw["secret"] = await text(one, "environment", name="KEY")
        saw["hidden"] = await text(one, "environment", name="BERTH_VARIABLES_FILE")
        waiting = asyncio.create_task(one.call_tool("wait", {}))
        async with asyncio.timeout(30):
            while await text(one, "waiting") != "1":
                pass
            # The only request that is not answered yet.
            [request] = one.session._response_streams
            await one.cancel(request)
            while await text(one, "canceled") != "1":
                pass
        waiting.cancel()
        saw["canceled"] = True
        try:
            await two.call_tool("end", {})
        except Exception as error:
            saw["end"] = str(error)
        saw["other"] = await text(one, "add", a=1, b=1)
    print(json.dumps(saw))


asyncio.run(main())
