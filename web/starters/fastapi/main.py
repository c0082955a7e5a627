"""A FastAPI application with an MCP server beside its routes."""

from fastapi import FastAPI, HTTPException
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError

CITIES = {"lisbon": "Portugal", "oslo": "Norway", "vienna": "Austria"}

tools = FastMCP("Cities")


@tools.tool
def country_of(city: str) -> str:
    """Tell which country a city is in."""
    country = CITIES.get(city.lower())
    if country is None:
        raise ToolError(f"{city} is not known; try one of {', '.join(sorted(CITIES))}.")
    return country


mcp_app = tools.http_app(path="/mcp")

# Without this lifespan the MCP server would not start.
app = FastAPI(title="Cities", lifespan=mcp_app.lifespan)


@app.get("/cities")
def cities() -> list[str]:
    """The cities that are known."""
    return sorted(CITIES)


@app.get("/cities/{city}")
def city(city: str) -> dict[str, str]:
    """One city."""
    if city.lower() not in CITIES:
        raise HTTPException(404, f"{city} is not known.")
    return {"city": city, "country": CITIES[city.lower()]}


# Last: it takes every path that no route above has.
app.mount("/", mcp_app)
