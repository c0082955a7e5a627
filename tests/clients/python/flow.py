"""What the Python clients under test share: how they report to the test, and where their browser comes back to.

A client prints one JSON line per step, `{"step": …, "saw": …}`; after `waiting` it goes on when a line stands on its
standard input.
"""

import asyncio
import json
import os
import sys
import urllib.request
from urllib.parse import parse_qs, urlencode, urlsplit

NAME = "Ada"


def say(step, **saw):
    """One step is done; the test decides whether what was seen is right."""
    print(json.dumps({"step": step, "saw": saw}), flush=True)


async def redeployed():
    """Waits until the test has put another deployment in place."""
    say("waiting")
    await asyncio.to_thread(sys.stdin.readline)


def open_in_browser(url):
    """Hands a URL to the test, which has the browser; whole or not at all."""
    target = os.environ["TEST_URL_FILE"]
    with open(target + ".part", "w") as file:
        file.write(url)
    os.replace(target + ".part", target)


class Callback:
    """Listens where the authorization server sends the browser back to."""

    async def __aenter__(self):
        self.answers = asyncio.Queue()
        self.server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/callback"
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def _answer(self, reader, writer):
        target = (await reader.readline()).decode().split()[1]
        while (await reader.readline()).strip():
            pass
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\ndone")
        await writer.drain()
        writer.close()
        if target.startswith("/callback?"):
            self.answers.put_nowait({name: values[0] for name, values in parse_qs(urlsplit(target).query).items()})

    async def parameters(self):
        """What the browser brings next."""
        return await self.answers.get()


class Tokens:
    """The SDK's storage of tokens and of the registered client, in memory."""

    def __init__(self):
        self.tokens = None
        self.client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


def forget_that_it_is_valid(provider):
    """The Python clients renew a token when their own clock says so; an hour passes for this one."""
    provider.context.token_expiry_time = 1
    return provider.context.current_tokens.access_token


def renewed(provider, before):
    """Whether another access token is in use than `before`, of a kind that can be renewed again."""
    tokens = provider.context.current_tokens
    return bool(tokens.refresh_token) and tokens.access_token != before


async def step_up(provider, call):
    """Goes on with a token that lacks the scope to call, which the edge says; the client gets it by asking again.

    Only who was granted two scopes can be left with the wrong one (RFC 6749 section 6).
    """
    context = provider.context
    if "offline_access" not in context.current_tokens.scope:
        return
    form = {
        "grant_type": "refresh_token",
        "refresh_token": context.current_tokens.refresh_token,
        "client_id": context.client_info.client_id,
        "scope": "offline_access",
    }
    endpoint = str(context.oauth_metadata.token_endpoint)
    answer = await asyncio.to_thread(urllib.request.urlopen, endpoint, urlencode(form).encode())
    narrow = type(context.current_tokens).model_validate_json(answer.read())
    context.current_tokens = narrow
    say("stepping_up")
    text = await call("add", a=2, b=2)
    say("step_up", text=text, renewed=renewed(provider, narrow.access_token))
