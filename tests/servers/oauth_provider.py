"""A FastMCP server that is an authorization server too: an OAuthProvider, which keeps what it gave in /data."""

import os
import pickle
from pathlib import Path

from fastmcp import FastMCP
from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.settings import ClientRegistrationOptions

KEPT = Path("/data/oauth.pickle")
NAMES = ["clients", "access_tokens", "refresh_tokens", "_access_to_refresh_map", "_refresh_to_access_map"]


class Provider(InMemoryOAuthProvider):
    """Allows every client what it asks for; nobody signs in again after a redeploy."""

    def __init__(self, **settings):
        super().__init__(**settings)
        if KEPT.exists():
            vars(self).update(pickle.loads(KEPT.read_bytes()))

    async def exchange_authorization_code(self, client, authorization_code):
        return self.keep(await super().exchange_authorization_code(client, authorization_code))

    async def exchange_refresh_token(self, client, refresh_token, scopes):
        return self.keep(await super().exchange_refresh_token(client, refresh_token, scopes))

    def keep(self, tokens):
        KEPT.write_bytes(pickle.dumps({name: vars(self)[name] for name in NAMES}))
        return tokens


auth = Provider(
    base_url=os.environ["BERTH_PUBLIC_URL"].removesuffix("/mcp"),
    client_registration_options=ClientRegistrationOptions(
        enabled=True, valid_scopes=["orders"], default_scopes=["orders"]
    ),
    required_scopes=["orders"],
)
mcp = FastMCP("Orders", auth=auth)


@mcp.tool
def who() -> str:
    """What the client was allowed; this server knows no people."""
    return " ".join(get_access_token().scopes)


@mcp.tool
def commit() -> str:
    """Which commit this is."""
    return os.environ["BERTH_COMMIT"]
