"""What every major version of FastMCP has, written once: `main.py` adds what only some have."""

import asyncio
import json
import logging
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import fastmcp
from cryptography.fernet import Fernet
from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.server.dependencies import get_context
from fastmcp.server.middleware import Middleware
from fastmcp.server.middleware.caching import (
    CallToolSettings,
    ListPromptsSettings,
    ListResourcesSettings,
    ListToolsSettings,
    ReadResourceSettings,
    ResponseCachingMiddleware,
)
from fastmcp.server.middleware.error_handling import ErrorHandlingMiddleware
from fastmcp.server.middleware.logging import LoggingMiddleware
from fastmcp.server.middleware.rate_limiting import RateLimitingMiddleware
from fastmcp.server.middleware.timing import TimingMiddleware
from fastmcp.server.middleware.tool_injection import ToolInjectionMiddleware
from fastmcp.tools import Tool
from fastmcp.utilities.types import Image
from key_value.aio.stores.disk import DiskStore
from key_value.aio.wrappers.encryption import FernetEncryptionWrapper
from mcp.types import Icon

# The smallest PNG: one pixel.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)
ICON = Icon(src=Image(data=PIXEL, format="png").to_data_uri(), mimeType="image/png", sizes=["1x1"])

# --- what middleware saw ------------------------------------------------------------------------

SAID, FAILED, COUNTED = [], [], []


def logger(name):
    """A logger whose lines a tool can tell."""
    handler = logging.Handler()
    handler.emit = lambda record: SAID.append(f"{name}: {record.getMessage()}")
    made = logging.getLogger(f"features.{name}")
    made.setLevel(logging.INFO)
    made.addHandler(handler)
    return made


class Doorkeeper(Middleware):
    """One of the server's own: refuses a guest, and signs what everybody else gets."""

    async def on_call_tool(self, context, call_next):
        if context.message.name != "enter":
            return await call_next(context)
        if context.message.arguments["who"] == "guest":
            raise ToolError("Members only.")
        result = await call_next(context)
        result.content[0].text += " Signed, the doorkeeper."
        return result


def injected() -> str:
    """Not a tool of the server: middleware adds it."""
    return "injected"


# --- the server -----------------------------------------------------------------------------------

STARTS = []


@asynccontextmanager
async def lifespan(server):
    """Runs once for the server, however many clients come."""
    STARTS.append(server.name)
    yield {"opened": "the ledger"}


mcp = FastMCP(
    "features",
    instructions="Every feature, behind one tool each.",
    version="7.1",
    website_url="https://features.example",
    icons=[ICON],
    lifespan=lifespan,
    middleware=[
        TimingMiddleware(logger=logger("timing")),
        LoggingMiddleware(logger=logger("logging")),
        # Results alone. Lists change here, and FastMCP 2 keeps them without the prefixes of mounted servers; of
        # resources FastMCP 2 and 3 cannot keep those that are not text.
        ResponseCachingMiddleware(
            list_tools_settings=ListToolsSettings(enabled=False),
            list_resources_settings=ListResourcesSettings(enabled=False),
            list_prompts_settings=ListPromptsSettings(enabled=False),
            read_resource_settings=ReadResourceSettings(enabled=False),
            call_tool_settings=CallToolSettings(included_tools=["counted"]),
        ),
        ToolInjectionMiddleware(tools=[Tool.from_function(injected)]),
        Doorkeeper(),
    ],
)


@dataclass
class Order:
    number: int
    paid: bool


@mcp.tool(icons=[ICON], annotations={"readOnlyHint": True})
def order(number: int) -> Order:
    """Looks up an order."""
    return Order(number, paid=number % 2 == 0)


@mcp.tool
def refuse() -> str:
    """Fails, in words that the caller is to read."""
    raise ToolError("No such order.")


@mcp.resource("data://greeting", icons=[ICON])
def greeting() -> str:
    return "Hello."


@mcp.resource("data://pixel", mime_type="image/png")
def pixel() -> bytes:
    return PIXEL


@mcp.resource("orders://{number}/{part}")
def part_of_an_order(number: int, part: str) -> dict:
    return {"number": number, "part": part}


@mcp.prompt(icons=[ICON])
def review(topic: str, tone: str = "kind") -> str:
    """Asks for a review."""
    return f"Review {topic}; be {tone}."


@mcp.tool
async def work(steps: int, ctx: Context) -> str:
    """Tells how far it is, and logs."""
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps, f"step {step} of {steps}")
        await ctx.info(f"step {step}")
    return "worked"


@mcp.tool
def opened() -> dict:
    """What the lifespan made, and how often it ran."""
    return {"context": get_context().request_context.lifespan_context, "starts": STARTS}


# --- a background task: each version says in its own words that it is one ---------------------------

RELEASED = asyncio.Event()


async def released():
    await asyncio.wait_for(RELEASED.wait(), 60)


@mcp.tool
async def release() -> str:
    """Lets the task go on."""
    RELEASED.set()
    return "released"


# --- storage: in /data, encrypted, and in FASTMCP_HOME ----------------------------------------------


@asynccontextmanager
async def kept():
    """The project's store on disk, in which nothing can be read without the key."""
    fernet = Fernet(os.environ["STORAGE_ENCRYPTION_KEY"])
    store = DiskStore(directory=Path(os.environ.get("DATA", "/data")) / "kept")
    async with store:
        yield FernetEncryptionWrapper(store, fernet=fernet)


@mcp.tool
async def keep(name: str, value: str) -> str:
    """Writes to both."""
    async with kept() as store:
        await store.put(name, {"value": value})
    home = Path(fastmcp.settings.home)
    (home / f"{name}.txt").write_text(value)
    return str(home)


@mcp.tool
async def kept_under(name: str) -> dict:
    """Reads from both; the commit tells which deployment answers."""
    async with kept() as store:
        stored = await store.get(name)
    home = Path(fastmcp.settings.home) / f"{name}.txt"
    return {
        "store": stored and stored["value"],
        "home": home.read_text() if home.exists() else None,
        "commit": os.environ.get("BERTH_COMMIT"),
    }


# --- middleware -----------------------------------------------------------------------------------


@mcp.tool
def enter(who: str) -> str:
    return f"Welcome, {who}."


@mcp.tool
def counted() -> int:
    """Runs once: what it answered is answered again."""
    COUNTED.append(1)
    return len(COUNTED)


@mcp.tool
def observed() -> dict:
    """What middleware saw of calls so far."""
    return {
        "timed": any(line.startswith("timing: ") and "completed in" in line for line in SAID),
        "logged": any(line.startswith("logging: ") and "tools/call" in line for line in SAID),
        "failed": FAILED,
    }


def bucket(context):
    """Calls share one; everything else, such as lists, has one each time."""
    return "calls" if context.method == "tools/call" else uuid4().hex


limited = FastMCP(
    "limited",
    middleware=[
        ErrorHandlingMiddleware(error_callback=lambda error, _: FAILED.append(str(error))),
        RateLimitingMiddleware(max_requests_per_second=0.001, burst_capacity=2, get_client_id=bucket),
    ],
)


@limited.tool
def ask() -> str:
    return "answered"


mcp.mount(limited, "limited")

# --- composition ----------------------------------------------------------------------------------

weather = FastMCP("weather")


@weather.tool
def forecast(city: str) -> str:
    return f"Rain in {city}."


@weather.resource("data://stations")
def stations() -> list[str]:
    return ["Oslo"]


@weather.prompt
def pack(city: str) -> str:
    return f"What do I pack for {city}?"


mcp.mount(weather, "weather")


@mcp.tool
def grow_the_weather() -> str:
    """Adds a tool to the mounted server, which shows it at once."""

    @weather.tool
    def late() -> str:
        return "late"

    return "grown"


# --- OpenAPI, and a server behind a server ----------------------------------------------------------

SPEC = {
    "openapi": "3.1.0",
    "info": {"title": "Stock", "version": "1"},
    "servers": [{"url": "http://stock.internal"}],
    "paths": {
        "/items": {
            "post": {
                "operationId": "add_item",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "properties": {"name": {"type": "string"}},
                                "required": ["name"],
                            }
                        }
                    },
                },
                "responses": {"200": {"description": "added"}},
            },
            "get": {"operationId": "list_items", "responses": {"200": {"description": "all"}}},
        },
        "/items/{number}": {
            "get": {
                "operationId": "get_item",
                "parameters": [{"name": "number", "in": "path", "required": True, "schema": {"type": "integer"}}],
                "responses": {"200": {"description": "one"}},
            }
        },
    },
}

ITEMS = ["anchor"]


async def stock(scope, receive, send):
    """The API that the specification describes."""
    body = (await receive()).get("body") or b"null"
    if scope["method"] == "POST":
        ITEMS.append(json.loads(body)["name"])
        answer = {"number": len(ITEMS) - 1, "name": ITEMS[-1]}
    elif scope["path"] == "/items":
        answer = {"items": ITEMS}
    else:
        number = int(scope["path"].rsplit("/", 1)[1])
        answer = {"number": number, "name": ITEMS[number]}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


backend = FastMCP("backend")


@backend.tool
def double(number: int) -> int:
    return number * 2
