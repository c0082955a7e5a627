"""A FastMCP server that takes the tokens of some authorization server: JWTVerifier with its public key."""

import os

from fastmcp import FastMCP
from fastmcp.server.auth.providers.jwt import JWTVerifier
from fastmcp.server.dependencies import get_access_token

auth = JWTVerifier(
    public_key=os.environ["PUBLIC_KEY"],
    algorithm="ES256",
    issuer="https://issuer.example",
    audience=os.environ["BERTH_PUBLIC_URL"],
    required_scopes=["orders"],
)
mcp = FastMCP("Orders", auth=auth)


@mcp.tool
def who() -> str:
    """Whom the token is for."""
    return get_access_token().claims["sub"]
