"""FastMCP 4: revision 2026-07-28, in which the server asks by answering; what came with 3; sessions of its own."""

import os

import httpx2
import later
from common import mcp, released, stock
from fastmcp import Context
from fastmcp.server.sessions import SessionId, SessionProvider, get_session
from fastmcp_tasks import TasksExtension
from mcp.types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    InputRequiredResult,
    SamplingMessage,
    TextContent,
    Tool,
    ToolResultContent,
)

later.add_stock(httpx2.AsyncClient(transport=httpx2.ASGITransport(stock), base_url="http://stock.internal"))
mcp.add_extension(TasksExtension())
mcp.add_provider(SessionProvider())


@mcp.tool(task=True)
async def long_work(ctx: Context) -> str:
    """Works until it is released by another call."""
    await ctx.report_progress(1, 2, "begun")
    await released()
    return "done in the background"


@mcp.tool
async def prefer(value: str, session_id: SessionId) -> str:
    """State of a session that the client was given: the next call finds it, another session does not."""
    session = await get_session(session_id)
    found = await session.get("preference")
    await session.set("preference", value)
    return f"{found}, now {await session.get('preference')}"


# --- the server asks --------------------------------------------------------------------------------

PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


@mcp.tool
async def greet(ctx: Context) -> str | InputRequiredResult:
    """Asks the person: the call is answered with the question, and sent again with the answer."""
    if not ctx.input_responses:
        question = ElicitRequestFormParams(message="What is your name?", requested_schema=PERSON)
        return InputRequiredResult(input_requests={"person": ElicitRequest(params=question)})
    answer = ctx.input_responses["person"]
    return f"Hello, {answer.content['name']}!" if answer.action == "accept" else answer.action


def user(*content):
    return SamplingMessage(role="user", content=list(content))


def model(messages, **more):
    """A question for the client's model, by the same way."""
    parameters = CreateMessageRequestParams(messages=messages, max_tokens=16, **more)
    return InputRequiredResult(input_requests={"model": CreateMessageRequest(params=parameters)})


@mcp.tool
async def sample(ctx: Context) -> str | InputRequiredResult:
    """Asks the client's model."""
    if not ctx.input_responses:
        question = TextContent(type="text", text="Say a word.")
        return model([user(question)], system_prompt="Be brief.")
    return ctx.input_responses["model"].content.text


PRICE = Tool(
    name="price",
    description="What an item costs.",
    input_schema={"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]},
)


@mcp.tool
async def sample_with_tools(ctx: Context) -> str | InputRequiredResult:
    """Lets the client's model call a function here until it has its answer."""
    messages = [user(TextContent(type="text", text="What does an anchor cost?"))]
    if not ctx.input_responses:
        return model(messages, tools=[PRICE])
    said = ctx.input_responses["model"]
    if said.stop_reason != "toolUse":
        return said.content.text
    [use] = said.content if isinstance(said.content, list) else [said.content]
    cost = TextContent(type="text", text=str(len(use.input["item"])))
    messages += [
        SamplingMessage(role="assistant", content=[use]),
        user(ToolResultContent(type="tool_result", tool_use_id=use.id, content=[cost])),
    ]
    return model(messages, tools=[PRICE])


if "REDIS_URL" in os.environ:
    import in_redis  # noqa: F401
