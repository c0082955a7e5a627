"""Serves an ASGI application on $PORT until SIGTERM."""

import importlib.util
import os

from .failure import LaunchFailure, innermost_of_group

# An instance gets 10 s between SIGTERM and the end; open streams are cut before that, so that lifespans can finish.
GRACEFUL_SHUTDOWN_SECONDS = 8

# Longer than any idle connection the edge keeps, so that it is never this side that closes one under a request.
KEEP_ALIVE_SECONDS = 75


async def serve(app, lifespan, port, started):
    """Runs until SIGTERM or SIGINT; calls `started()` once the port is open. Raises what the start-up raised.

    `lifespan` is uvicorn's: "on", or "auto" for an application that may know none.
    """
    try:
        import uvicorn
    except ImportError:
        raise LaunchFailure(
            "serve", "uvicorn is not installed in the environment. Add uvicorn to the project's dependencies."
        ) from None

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets=sockets)
            if self.started:
                started()

    watched = _Watched(app)
    server = Server(_config(uvicorn, watched, lifespan, port))
    try:
        await server.serve()
    except SystemExit as ended:
        # uvicorn logs why it cannot bind or start, and exits.
        if watched.failure is None:
            raise LaunchFailure("serve", f"Port {port} could not be opened (exit {ended.code}); see the log.") from None
    if not server.started:
        raise watched.failure or LaunchFailure("serve", "The server did not start; see the log.")


def _config(uvicorn, app, lifespan, port):
    return uvicorn.Config(
        app,
        host="0.0.0.0",
        port=port,
        lifespan=lifespan,
        # The maintained implementation; "auto" picks a deprecated one that warns.
        ws="websockets-sansio" if importlib.util.find_spec("websockets") else "none",
        proxy_headers=True,
        forwarded_allow_ips="*",
        access_log=False,
        server_header=False,
        use_colors=False,
        log_level=os.environ.get("FASTMCP_LOG_LEVEL", "info").lower(),
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )


class _Watched:
    """Keeps the exception of a failed start-up, of which uvicorn only logs the text."""

    def __init__(self, app):
        self._app = app
        self.failure = None

    async def __call__(self, scope, receive, send):
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except BaseException as error:
            self.failure = innermost_of_group(error)
            raise
