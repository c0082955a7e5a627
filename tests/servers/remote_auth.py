"""A FastMCP server that sends people elsewhere to sign in: RemoteAuthProvider names an authorization server."""

import os

from fastmcp import FastMCP
from fastmcp.server.auth import RemoteAuthProvider
from fastmcp.server.auth.providers.jwt import JWTVerifier
from fastmcp.server.dependencies import get_access_token
from pydantic import AnyHttpUrl

PROVIDER = os.environ["PROVIDER"]

auth = RemoteAuthProvider(
    token_verifier=JWTVerifier(
        jwks_uri=f"{PROVIDER}/keys", issuer=PROVIDER, audience="orders", required_scopes=["orders"]
    ),
    authorization_servers=[AnyHttpUrl(PROVIDER)],
    base_url=os.environ["BERTH_PUBLIC_URL"].removesuffix("/mcp"),
)
mcp = FastMCP("Orders", auth=auth)


@mcp.tool
def who() -> str:
    """Whom the authorization server vouches for."""
    return get_access_token().claims["email"]


@mcp.tool
def commit() -> str:
    """Which commit this is."""
    return os.environ["BERTH_COMMIT"]
