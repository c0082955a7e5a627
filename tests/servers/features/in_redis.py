"""Storage and background tasks in the project's Redis; `main.py` imports it where there is one."""

import os
from urllib.parse import urlsplit

from common import mcp
from key_value.aio.stores.redis import RedisStore

# What the platform gives a project with Redis.
store = RedisStore(url=os.environ["REDIS_URL"])


@mcp.tool
async def keep_in_redis(name: str, value: str) -> str:
    await store.put(name, {"value": value})
    return "kept"


@mcp.tool
async def kept_in_redis(name: str) -> dict:
    """The commit tells which deployment answers."""
    stored = await store.get(name)
    return {"value": stored and stored["value"], "commit": os.environ.get("BERTH_COMMIT")}


@mcp.tool
def tasks_kept_in() -> str:
    """Where FastMCP keeps background tasks."""
    return urlsplit(os.environ["FASTMCP_DOCKET_URL"]).scheme
