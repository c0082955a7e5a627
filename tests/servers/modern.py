"""The same tools for revision 2026-07-28; FastMCP 4."""

import os

from fastmcp import Context, FastMCP
from mcp.types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult

mcp = FastMCP("modern")

PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


@mcp.tool
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@mcp.tool
def commit() -> str:
    """Which commit this is."""
    return os.environ["BERTH_COMMIT"]


@mcp.tool
async def work(steps: int, ctx: Context) -> str:
    """Tells of its progress, and logs."""
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps)
        await ctx.info(f"step {step}")
    return "worked"


@mcp.tool
async def ask(ctx: Context) -> str | InputRequiredResult:
    """Asks the person: the call is answered with the question, and sent again with the answer."""
    if not ctx.input_responses:
        question = ElicitRequestFormParams(message="What is your name?", requested_schema=PERSON)
        return InputRequiredResult(input_requests={"person": ElicitRequest(params=question)}, request_state="asked")
    answer = ctx.input_responses["person"]
    if ctx.request_state != "asked":
        return "the state did not come back"
    return f"Hello, {answer.content['name']}!" if answer.action == "accept" else answer.action
