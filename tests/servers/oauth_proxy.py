"""A FastMCP server with a sign-in of its own: OAuthProxy before an identity provider."""

import os

from fastmcp import FastMCP
from fastmcp.server.auth import OAuthProxy
from fastmcp.server.auth.providers.jwt import JWTVerifier
from fastmcp.server.dependencies import get_access_token
from starlette.responses import JSONResponse

PROVIDER = os.environ["PROVIDER"]

auth = OAuthProxy(
    upstream_authorization_endpoint=f"{PROVIDER}/authorize",
    upstream_token_endpoint=f"{PROVIDER}/token",
    upstream_client_id=os.environ["CLIENT_ID"],
    upstream_client_secret=os.environ["CLIENT_SECRET"],
    token_verifier=JWTVerifier(
        jwks_uri=f"{PROVIDER}/keys", issuer=PROVIDER, audience="orders", required_scopes=["orders"]
    ),
    base_url=os.environ["BERTH_PUBLIC_URL"].removesuffix("/mcp"),
)
mcp = FastMCP("Orders", auth=auth)


@mcp.tool
def who() -> str:
    """Whom the identity provider vouches for."""
    return get_access_token().claims["email"]


@mcp.tool
def commit() -> str:
    """Which commit this is."""
    return os.environ["BERTH_COMMIT"]


@mcp.custom_route("/seen", methods=["GET"])
async def seen(request):
    """What reached the server, and cookies of every kind."""
    answer = JSONResponse({"headers": [[name, value] for name, value in request.headers.items()]})
    answer.set_cookie("__Host-kept", "1", max_age=600, secure=True, httponly=True, samesite="lax")
    answer.set_cookie("framed", "2", path="/seen", secure=True, samesite="none")
    return answer
