"""Goes through every feature of FastMCP with the installed version's client; prints a JSON line for each.

usage: features.py PART URL, the token in TEST_ACCESS_TOKEN

Each function below is a feature, and belongs to the part that its mark names: a deployment, or a moment of one. A line
is `{"feature": …, "saw": …}`, or `{"feature": …, "lacks": …}` with what this version has no name for, or
`{"feature": …, "failed": …}`.
"""

import asyncio
import base64
import importlib
import json
import os
import sys
import traceback

import fastmcp
import flow
import mcp.types as types
from fastmcp import Client
from fastmcp.client.auth import BearerAuth
from fastmcp.client.elicitation import ElicitResult
from fastmcp.exceptions import ToolError

MAJOR = int(fastmcp.__version__.split(".")[0])
if MAJOR == 4:
    # Makes clients say that they can wait for tasks.
    from fastmcp_tasks import call_tool_task

ITEM = "anchor"
PARTS = {}


def feature(part, name, *, only=(2, 3, 4), needs=None):
    """Marks a feature; `needs` is a name that versions outside `only` must be without."""

    def mark(function):
        PARTS.setdefault(part, []).append((name, only, needs, function))
        return function

    return mark


def lacks(path):
    """Proves that a name is not there."""
    module, _, name = path.partition(":")
    try:
        found = importlib.import_module(module)
        for step in name.split("."):
            found = getattr(found, step)
    except (ImportError, AttributeError):
        return
    raise AssertionError(f"{path} is there")


class Seen:
    """What reached the client besides the answers to its own requests."""

    def __init__(self):
        self.forget()

    def forget(self):
        self.questions, self.prompts, self.progress, self.logs = [], [], [], []

    async def on_question(self, message, _response_type, _parameters, _context):
        self.questions.append(message)
        return ElicitResult(action="accept", content={"name": flow.NAME})

    async def on_prompt(self, messages, parameters, _context):
        """Stands in for a model: uses the tool that it is given, and says what that told."""
        last = messages[-1].content
        last = last[0] if isinstance(last, list) else last
        if last.type == "tool_result":
            self.prompts.append(f"{last.content[0].text} by {parameters.tools[0].name}")
            return f"It costs {last.content[0].text}."
        self.prompts.append(last.text)
        if not parameters.tools:
            return "berth"
        use = {"type": "tool_use", "id": "use-1", "name": parameters.tools[0].name, "input": {"item": ITEM}}
        made = {"role": "assistant", "model": "none", "content": [use], "stopReason": "toolUse"}
        return types.CreateMessageResultWithTools.model_validate(made)

    async def on_progress(self, done, total, message):
        self.progress.append([done, total, message])

    async def on_log(self, message):
        self.logs.append(message.data["msg"])


def connect(seen):
    token = os.environ.get("TEST_ACCESS_TOKEN")
    return Client(
        sys.argv[2],
        auth=BearerAuth(token) if token else None,
        elicitation_handler=seen.on_question,
        sampling_handler=seen.on_prompt,
        sampling_capabilities=types.SamplingCapability.model_validate({"tools": {}}),
        progress_handler=seen.on_progress,
        log_handler=seen.on_log,
    )


async def call(client, name, /, **arguments):
    return (await client.call_tool(name, arguments)).content[0].text


async def refusal(client, name, /, **arguments):
    """What a call that fails says."""
    try:
        return f"no refusal but {await call(client, name, **arguments)}"
    except ToolError as error:
        return str(error)


async def tools(client):
    return {tool.name: tool for tool in await client.list_tools()}


def dumped(model):
    """The words of the protocol, which the majors name differently in Python."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


async def text(client, uri):
    return (await client.read_resource(uri))[0].text


async def prompt(client, name, /, **arguments):
    return (await client.get_prompt(name, arguments)).messages[0].content.text


# --- what every version has -------------------------------------------------------------------------


@feature("features", "tools")
async def _(client, _seen):
    listed = dumped((await tools(client))["order"])
    result = await client.call_tool("order", {"number": 4})
    return {
        "schema": listed["inputSchema"]["properties"]["number"]["type"],
        "output": sorted(listed["outputSchema"]["properties"]),
        "read_only": listed["annotations"]["readOnlyHint"],
        "structured": result.structured_content,
        "refusal": await refusal(client, "refuse"),
    }


@feature("features", "resources")
async def _(client, _seen):
    pixel = (await client.read_resource("data://pixel"))[0]
    return {
        "text": await text(client, "data://greeting"),
        "kind": dumped(pixel)["mimeType"],
        "bytes": len(base64.b64decode(pixel.blob)),
    }


@feature("features", "resource templates")
async def _(client, _seen):
    listed = [dumped(template)["uriTemplate"] for template in await client.list_resource_templates()]
    return {
        "listed": "orders://{number}/{part}" in listed,
        "read": json.loads(await text(client, "orders://7/hull")),
    }


@feature("features", "prompts")
async def _(client, _seen):
    [listed] = [dumped(prompt) for prompt in await client.list_prompts() if prompt.name == "review"]
    return {
        "arguments": [[each["name"], each["required"]] for each in listed["arguments"]],
        "text": await prompt(client, "review", topic="ropes"),
    }


@feature("features", "elicitation")
async def _(client, seen):
    return {"text": await call(client, "greet"), "questions": seen.questions}


@feature("features", "progress")
async def _(client, seen):
    return {"text": await call(client, "work", steps=2), "progress": seen.progress, "logs": seen.logs}


@feature("features", "sampling")
async def _(client, seen):
    return {"text": await call(client, "sample"), "prompts": seen.prompts}


@feature("features", "sampling with tools")
async def _(client, seen):
    return {"text": await call(client, "sample_with_tools"), "prompts": seen.prompts}


async def as_a_task(client, name):
    """Starts a call as a task and does not wait for it."""
    if MAJOR < 4:
        return await client.call_tool(name, task=True)
    return await call_tool_task(client, name, {})


async def task(client):
    started = await as_a_task(client, "long_work")
    before = (await started.status()).status
    # Another call, while the task goes on.
    await call(client, "release")
    result = await started.result()
    return {"before": before, "after": (await started.status()).status, "text": result.content[0].text}


@feature("features", "background tasks in memory")
async def _(client, _seen):
    return await task(client)


@feature("features", "lifespans")
async def _(client, _seen):
    first = json.loads(await call(client, "opened"))
    async with connect(Seen()) as other:
        second = json.loads(await call(other, "opened"))
    return {"first": first, "second": second}


# What some versions say before the words of a server in front.
BEFORE = "Error calling tool 'limited_ask': "


@feature("features", "middleware")
async def _(client, _seen):
    return {
        "own": [await call(client, "enter", who="Ada"), await refusal(client, "enter", who="guest")],
        "caching": [await call(client, "counted"), await call(client, "counted")],
        "rate_limiting": [(await refusal(client, "limited_ask")).removeprefix(BEFORE) for _ in range(3)],
        "tool_injection": [(await tools(client))["injected"].name, await call(client, "injected")],
        "timing, logging, error_handling": json.loads(await call(client, "observed")),
    }


@feature(
    "features",
    "middleware: PromptToolMiddleware, ResourceToolMiddleware",
    only=(2, 3),
    needs="fastmcp.server.middleware.tool_injection:PromptToolMiddleware",
)
async def _(client, _seen):
    asked = await call(client, "get_prompt", name="review", arguments={"topic": "ropes"})
    read = await client.call_tool("read_resource", {"uri": "data://greeting"})
    return {"prompt": "Review ropes; be kind." in asked, "resource": "Hello." in str(read.content)}


@feature("features", "composition: mount")
async def _(client, _seen):
    said = {
        "tool": await call(client, "weather_forecast", city="Oslo"),
        "resource": json.loads(await text(client, "data://weather/stations")),
        "prompt": await prompt(client, "weather_pack", city="Oslo"),
    }
    await call(client, "grow_the_weather")
    return said | {"live": await call(client, "weather_late")}


@feature("features", "composition: import_server", only=(2, 3), needs="fastmcp:FastMCP.import_server")
async def _(client, _seen):
    await call(client, "grow_the_copied")
    return {"tool": await call(client, "copied_early"), "live": "copied_later" in await tools(client)}


@feature("features", "icons")
async def _(client, _seen):
    def icon(model):
        [found] = dumped(model)["icons"]
        return [found["src"].partition(",")[0], found["mimeType"], found["sizes"]]

    server = client.server_info if MAJOR == 4 else client.initialize_result.serverInfo
    [resource] = [each for each in await client.list_resources() if str(each.uri) == "data://greeting"]
    [asked] = [each for each in await client.list_prompts() if each.name == "review"]
    icons = [icon(server), icon((await tools(client))["order"]), icon(resource), icon(asked)]
    return {"icons": icons, "site": dumped(server)["websiteUrl"], "version": server.version}


@feature("features", "OpenAPI")
async def _(client, _seen):
    added = await client.call_tool("stock_add_item", {"name": "rope"})
    return {
        "tool": added.structured_content["name"],
        "resource": json.loads(await text(client, "resource://stock/list_items"))["items"][:2],
        "template": json.loads(await text(client, "resource://stock/get_item/0")),
    }


@feature("features", "composition: proxy")
async def _(client, _seen):
    return {"text": await call(client, "behind_double", number=21)}


# --- what came with FastMCP 3 -----------------------------------------------------------------------

LATER = {"only": (3, 4), "needs": "fastmcp.server.providers:Provider"}


@feature("features", "providers: FileSystemProvider", **LATER)
async def _(client, _seen):
    return {
        "tool": await call(client, "berths"),
        "resource": await text(client, "data://tides"),
        "prompt": await prompt(client, "hail", ship="Argo"),
    }


@feature("features", "providers: SkillsDirectoryProvider", **LATER)
async def _(client, _seen):
    manifest = json.loads(await text(client, "skill://knots/_manifest"))
    return {
        "skill": "A bowline holds" in await text(client, "skill://knots/SKILL.md"),
        "file": await text(client, "skill://knots/bends.md"),
        "files": sorted(file["path"] for file in manifest["files"]),
    }


@feature("features", "providers: OpenAPIProvider", **LATER)
async def _(client, _seen):
    result = await client.call_tool("provided_get_item", {"number": 0})
    return {"tool": result.structured_content}


@feature("features", "providers: ProxyProvider", **LATER)
async def _(client, _seen):
    return {"text": await call(client, "behind_double", number=4)}


@feature("features", "transforms: Namespace, VersionFilter", **LATER)
async def _(client, _seen):
    return {"text": await call(client, "past_tax")}


@feature("features", "transforms: ResourcesAsTools, PromptsAsTools", **LATER)
async def _(client, _seen):
    asked = await call(client, "shelf_get_prompt", name="summarize", arguments={"text": "it"})
    read = await call(client, "shelf_read_resource", uri="data://note")
    return {"prompt": "Summarize it." in asked, "resource": read}


@feature("features", "versions of a component", only=(3, 4), needs="fastmcp.utilities.versions:VersionSpec")
async def _(client, _seen):
    first = await client.call_tool("quote", version="1.0")
    listed = [tool.name for tool in await client.list_tools()]
    return {
        "usual": await call(client, "quote"),
        "first": first.content[0].text,
        "listed": listed.count("quote"),
    }


@feature("features", "session state", only=(3, 4), needs="fastmcp:Context.delete_state")
async def _(client, _seen):
    async def prefer(client, value, **session):
        return await call(client, "prefer", value=value, **session)

    async def opened(client):
        """Which session is meant: that of the protocol, or since 2026-07-28 one that the server hands out."""
        return {"session_id": await call(client, "create_session")} if MAJOR == 4 else {}

    mine = await opened(client)
    said = [await prefer(client, "tea", **mine), await prefer(client, "rum", **mine)]
    async with connect(Seen()) as other:
        return {"same": said, "other": await prefer(other, "milk", **await opened(other))}


@feature("features", "tool timeouts", only=(3, 4), needs="fastmcp.server.providers:Provider")
async def _(client, _seen):
    return {"refusal": "timed out" in await refusal(client, "never")}


# --- storage on disk: written by one deployment, read from the next -----------------------------------


@feature("features", "storage on disk")
async def _(client, _seen):
    home = await call(client, "keep", name="course", value="north")
    return {"in": home, **json.loads(await call(client, "kept_under", name="course"))}


@feature("redeployed", "storage on disk")
async def _(client, _seen):
    return json.loads(await call(client, "kept_under", name="course"))


# --- what needs Redis -------------------------------------------------------------------------------


@feature("redis", "background tasks in Redis")
async def _(client, _seen):
    return {"where": await call(client, "tasks_kept_in"), **await task(client)}


@feature("redis", "storage in Redis")
async def _(client, _seen):
    await call(client, "keep_in_redis", name="course", value="north")
    return json.loads(await call(client, "kept_in_redis", name="course"))


@feature("redis redeployed", "storage in Redis")
async def _(client, _seen):
    return json.loads(await call(client, "kept_in_redis", name="course"))


# --- a FastAPI application ----------------------------------------------------------------------------


@feature("api", "FastAPI conversion")
async def _(client, _seen):
    listed = sorted(await tools(client))
    launched = await client.call_tool("launch", {"name": "bo", "metres": 7})
    ship = await client.call_tool("ship", {"name": "bo"})
    return {"tools": listed, "launch": launched.structured_content, "ship": ship.structured_content}


@feature("api", "FastAPI mount")
async def _(client, _seen):
    return {"ship": (await client.call_tool("ship", {"name": "ada"})).structured_content}


async def look(client, seen, only, needs, function):
    if MAJOR not in only:
        lacks(needs)
        return {"lacks": needs}
    seen.forget()
    return {"saw": await asyncio.wait_for(function(client, seen), 60)}


async def main():
    seen = Seen()
    async with connect(seen) as client:
        for name, only, needs, function in PARTS[sys.argv[1]]:
            try:
                said = await look(client, seen, only, needs, function)
            except Exception:
                said = {"failed": traceback.format_exc()}
            print(json.dumps({"feature": name, **said}), flush=True)


asyncio.run(main())
