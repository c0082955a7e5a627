"""A FastAPI application that serves its own routes as tools: converted, and mounted in itself."""

from fastapi import FastAPI
from fastmcp import FastMCP

routes = FastAPI(title="Ships")

SHIPS = {"ada": 12}


@routes.get("/ships/{name}", operation_id="ship")
def ship(name: str) -> dict:
    return {"name": name, "metres": SHIPS[name]}


@routes.post("/ships", operation_id="launch")
def launch(name: str, metres: int) -> dict:
    SHIPS[name] = metres
    return {"launched": name}


mcp = FastMCP.from_fastapi(routes, name="ships")
mounted = mcp.http_app(path="/mcp")
# Without the lifespan nothing would answer.
app = FastAPI(lifespan=mounted.lifespan)
app.include_router(routes.router)
app.mount("/", mounted)
