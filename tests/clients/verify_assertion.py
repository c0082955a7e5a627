"""Verifies the assertion in $ASSERTION as a server would: FastMCP's JWTVerifier and the platform's published keys.

Arguments: the address of the keys, the issuer, the audience. Prints the claims.
"""

import asyncio
import json
import os
import sys

from fastmcp.server.auth.providers.jwt import JWTVerifier


async def main():
    keys, issuer, audience = sys.argv[1:]
    assertion = os.environ["ASSERTION"]
    verifier = JWTVerifier(jwks_uri=keys, issuer=issuer, audience=audience, algorithm="ES256")
    token = await verifier.verify_token(assertion)
    if token is None:
        sys.exit("the verifier refuses the assertion")
    other = JWTVerifier(jwks_uri=keys, issuer=issuer, audience=audience + "x", algorithm="ES256")
    accepted = await other.verify_token(assertion) is not None
    print(json.dumps({**token.claims, "wrong_audience": accepted}))


asyncio.run(main())
