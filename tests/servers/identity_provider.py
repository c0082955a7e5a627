"""An identity provider as companies have one: people sign in on its page, and programs that it knows get tokens.

Arguments: the address to listen at, and the one redirect address of its one client, whose id and secret are in
CLIENT_ID and CLIENT_SECRET. Prints its port. `GET /grants` tells the test which grants were made.
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
ISSUER = f"http://{sys.argv[1]}:{LISTENER.getsockname()[1]}"
REDIRECT_URI = sys.argv[2]
CLIENT = (os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"])

ASKED, CODES, REFRESH, GRANTS = {}, {}, set(), []

PAGE = """<!doctype html><title>Sign in to people.example</title>
<form method="post"><input type="hidden" name="asked" value="{asked}"><p>For {client}
<button name="person" value="ada">Continue as Ada</button></form>"""


async def authorize(request):
    """RFC 6749 section 4.1.1 with PKCE; the request waits behind the page."""
    query = request.query_params
    wrong = [
        name
        for name, value in {
            "response_type": "code",
            "client_id": CLIENT[0],
            "redirect_uri": REDIRECT_URI,
            "code_challenge_method": "S256",
        }.items()
        if query.get(name) != value
    ]
    if wrong:
        return PlainTextResponse(f"wrong: {wrong} in {query}", 400)
    asked = secrets.token_urlsafe()
    ASKED[asked] = dict(query)
    return HTMLResponse(PAGE.format(asked=asked, client=html.escape(CLIENT[0])))


async def signed_in(request):
    form = await request.form()
    asked = ASKED.pop(form["asked"])
    code = secrets.token_urlsafe()
    CODES[code] = asked
    answer = urlencode({"code": code, "state": asked["state"]})
    return RedirectResponse(f"{REDIRECT_URI}?{answer}", 303)


async def token(request):
    """RFC 6749 sections 4.1.3 and 6; refresh tokens are good for one use."""
    form = await request.form()
    if credentials(request, form) != CLIENT:
        return JSONResponse({"error": "invalid_client"}, 401)
    kind = form["grant_type"]
    if kind == "authorization_code":
        asked = CODES.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        good = asked and asked["code_challenge"] == challenge and form["redirect_uri"] == REDIRECT_URI
    else:
        good = kind == "refresh_token" and form["refresh_token"] in REFRESH
        REFRESH.discard(form["refresh_token"])
    if not good:
        return JSONResponse({"error": "invalid_grant"}, 400)
    GRANTS.append(kind)
    return JSONResponse(tokens())


def credentials(request, form):
    """The client's id and secret, by either method of RFC 6749 section 2.3.1."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        id, _, secret = base64.b64decode(value).decode().partition(":")
        return unquote(id), unquote(secret)
    return form.get("client_id"), form.get("client_secret")


def tokens():
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
    REFRESH.add(refresh)
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
        Route("/authorize", authorize, methods=["GET"]),
        Route("/authorize", signed_in, methods=["POST"]),
        Route("/token", token, methods=["POST"]),
        Route("/keys", keys),
        Route("/grants", grants),
    ]
)
print(LISTENER.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[LISTENER])
