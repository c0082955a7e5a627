"""Keeps things wherever the platform lets it, and works in the background."""

import asyncio
import os
import socket
from datetime import timedelta

from cryptography.fernet import Fernet
from fastmcp import FastMCP
from fastmcp_tasks import TasksExtension
from key_value.aio.stores.disk import DiskStore
from key_value.aio.stores.redis import RedisStore
from key_value.aio.wrappers.encryption import FernetEncryptionWrapper

mcp = FastMCP("state")
# Whoever works on a task and goes away leaves it to the next one, soon.
mcp.add_extension(TasksExtension(redelivery_timeout=timedelta(seconds=2)))

STORES = {
    "disk": FernetEncryptionWrapper(
        key_value=DiskStore(directory=os.environ["FASTMCP_HOME"] + "/store"),
        fernet=Fernet(os.environ["STORAGE_ENCRYPTION_KEY"]),
    ),
    "redis": RedisStore(url=os.environ["REDIS_URL"]),
}


@mcp.tool
async def keep(name: str, value: str) -> str:
    """Puts a value into each store."""
    for store in STORES.values():
        await store.put(key=name, value={"value": value})
    return "<kept>"


@mcp.tool
async def kept(name: str) -> str:
    """What each store has."""
    found = []
    for kind, store in STORES.items():
        value = await store.get(key=name)
        found.append(f"{kind}={value and value['value']}")
    return f"<{' '.join(found)}>"


@mcp.tool(task=True)
async def wait_for(name: str) -> str:
    """Ends when there is something of a name."""
    while await STORES["redis"].get(key=name) is None:
        await asyncio.sleep(0.1)
    return f"<ended in {os.environ['BERTH_DEPLOYMENT']}>"


@mcp.tool
def ask_redis(question: str) -> str:
    """What the Redis says to someone who has not signed in, or has."""
    password = os.environ["REDIS_URL"].split(":")[2].split("@")[0]
    with socket.create_connection(("redis", 6379), 5) as stream:
        stream.sendall(question.replace("PASSWORD", password).encode() + b"\r\n")
        return f"<{stream.recv(200).decode().strip()}>"
