"""An identity provider as companies have one: people sign in on its page, and programs that it knows get tokens.

Arguments: the address to listen at, and the one redirect address of the client that it knows from the start, whose id
and secret are in CLIENT_ID and CLIENT_SECRET; others register (RFC 7591). Prints its issuer. `GET /grants` tells the test
which grants were made.
"""

import base64
import hashlib
import html
import os
import secrets
import socket
import sys
import time
from urllib.parse import unquote, urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from starlette.routing import Route

PERSON = {"sub": "u-17", "email": "ada@people.example"}
AUDIENCE = "orders"
TOKEN_SECONDS = 3600

KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
LISTENER = socket.create_server((sys.argv[1], 0))
# With a path, as an identity provider of many companies has it.
PATH = "/people"
ISSUER = f"http://{sys.argv[1]}:{LISTENER.getsockname()[1]}{PATH}"
# Each client's secret and redirect addresses, by its id.
CLIENTS = {os.environ["CLIENT_ID"]: (os.environ["CLIENT_SECRET"], [sys.argv[2]])}

ASKED, CODES, REFRESH, GRANTS = {}, {}, {}, []

PAGE = """<!doctype html><title>Sign in to people.example</title>
<form method="post"><input type="hidden" name="asked" value="{asked}"><p>For {client}
<button name="person" value="ada">Continue as Ada</button></form>"""


async def metadata(_):
    """RFC 8414."""
    return JSONResponse(
        {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize",
            "token_endpoint": f"{ISSUER}/token",
            "registration_endpoint": f"{ISSUER}/register",
            "jwks_uri": f"{ISSUER}/keys",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": ["orders"],
        }
    )


async def register(request):
    """RFC 7591, for public clients."""
    asked = await request.json()
    id = secrets.token_urlsafe()
    CLIENTS[id] = (None, asked["redirect_uris"])
    return JSONResponse({**asked, "client_id": id, "token_endpoint_auth_method": "none"}, 201)


async def authorize(request):
    """RFC 6749 section 4.1.1 with PKCE; the request waits behind the page."""
    query = request.query_params
    _, redirect_uris = CLIENTS.get(query.get("client_id"), (None, []))
    right = (
        query.get("response_type") == "code"
        and query.get("redirect_uri") in redirect_uris
        and query.get("code_challenge_method") == "S256"
    )
    if not right:
        return PlainTextResponse(f"wrong: {query}", 400)
    asked = secrets.token_urlsafe()
    ASKED[asked] = dict(query)
    return HTMLResponse(PAGE.format(asked=asked, client=html.escape(query["client_id"])))


async def signed_in(request):
    form = await request.form()
    asked = ASKED.pop(form["asked"])
    code = secrets.token_urlsafe()
    CODES[code] = asked
    answer = urlencode({"code": code, "state": asked["state"]})
    return RedirectResponse(f"{asked['redirect_uri']}?{answer}", 303)


async def token(request):
    """RFC 6749 sections 4.1.3 and 6; refresh tokens are good for one use."""
    form = await request.form()
    id, secret = credentials(request, form)
    known, _ = CLIENTS.get(id, (None, []))
    if id not in CLIENTS or known != secret:
        return JSONResponse({"error": "invalid_client"}, 401)
    kind = form["grant_type"]
    if kind == "authorization_code":
        asked = CODES.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        good = (
            asked
            and asked["client_id"] == id
            and asked["code_challenge"] == challenge
            and form["redirect_uri"] == asked["redirect_uri"]
        )
    else:
        good = kind == "refresh_token" and REFRESH.pop(form["refresh_token"], None) == id
    if not good:
        return JSONResponse({"error": "invalid_grant"}, 400)
    GRANTS.append(kind)
    return JSONResponse(tokens(id))


def credentials(request, form):
    """The client's id and secret, by either method of RFC 6749 section 2.3.1."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        id, _, secret = base64.b64decode(value).decode().partition(":")
        return unquote(id), unquote(secret)
    return form.get("client_id"), form.get("client_secret")


def tokens(id):
    now = int(time.time())
    claims = {
        **PERSON,
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + TOKEN_SECONDS,
        "scope": "orders",
        "jti": secrets.token_urlsafe(),
    }
    refresh = secrets.token_urlsafe()
    REFRESH[refresh] = id
    return {
        "access_token": jwt.encode({"alg": "RS256", "kid": "one"}, claims, KEY),
        "token_type": "Bearer",
        "expires_in": TOKEN_SECONDS,
        "refresh_token": refresh,
        "scope": "orders",
    }


async def keys(_):
    return JSONResponse(KeySet([KEY]).as_dict(private=False))


async def grants(_):
    return JSONResponse(GRANTS)


app = Starlette(
    routes=[
        Route(f"/.well-known/oauth-authorization-server{PATH}", metadata),
        Route(f"{PATH}/register", register, methods=["POST"]),
        Route(f"{PATH}/authorize", authorize, methods=["GET"]),
        Route(f"{PATH}/authorize", signed_in, methods=["POST"]),
        Route(f"{PATH}/token", token, methods=["POST"]),
        Route(f"{PATH}/keys", keys),
        Route(f"{PATH}/grants", grants),
    ]
)
print(ISSUER, flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[LISTENER])
