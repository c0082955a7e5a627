"""The kinds of server that can be served, and the ASGI application of each."""

import contextlib
import inspect
import os
import sys

MCP_PATH = "/mcp"

# Kind → module and class. A class is looked up only if its module is loaded: an object of it cannot exist before.
CLASSES = {
    "fastmcp": ("fastmcp.server.server", "FastMCP"),
    "sdk1": ("mcp.server.fastmcp.server", "FastMCP"),
    "sdk2": ("mcp.server.mcpserver.server", "MCPServer"),
    "lowlevel": ("mcp.server.lowlevel.server", "Server"),
    "asgi": ("starlette.applications", "Starlette"),
}
HIGH_LEVEL = ("fastmcp", "sdk1", "sdk2")
LOW_LEVEL = ("lowlevel",)
WEB = ("asgi",)


def loaded_class(kind):
    """The class of a kind, or None while nothing has imported its module."""
    module, name = CLASSES[kind]
    return getattr(sys.modules.get(module), name, None)


def kind_of(value):
    """The kind of a server object, or None for anything else."""
    for kind in CLASSES:
        known = loaded_class(kind)
        if known is not None and isinstance(value, known):
            return kind
    return None


def is_asgi_callable(value):
    """Whether a named object that is no known server is an ASGI application: async, taking scope, receive, send."""
    if isinstance(value, type):
        return False
    call = value if inspect.isfunction(value) else getattr(value, "__call__", None)
    if not inspect.iscoroutinefunction(call):
        return False
    return len(inspect.signature(call).parameters) == 3


def application(server, kind):
    """The ASGI application that answers Streamable HTTP at /mcp and /mcp/, and a notice or None."""
    build = {"fastmcp": _fastmcp, "sdk1": _sdk1, "sdk2": _sdk2, "lowlevel": _lowlevel}.get(kind)
    if build:
        return _answer_at(build(server), MCP_PATH), None
    return _web(server)


def _web(server):
    endpoints = mcp_endpoints(_routes(server))
    for _, endpoint in endpoints:
        _drop_host_guard(getattr(endpoint, "session_manager", None))
    paths = [path for path, _ in endpoints]
    if len(paths) == 1:
        moved = paths[0].rstrip("/") != MCP_PATH
        notice = f"The application serves MCP at {paths[0]}; it is reached at {MCP_PATH}." if moved else None
        return _answer_at(server, paths[0]), notice
    if paths and MCP_PATH not in paths:
        return server, f"The application serves MCP at {', '.join(paths)} and nothing at {MCP_PATH}, where it is reached."
    return server, None


def _drop_host_guard(session_manager):
    """The SDKs refuse hosts other than loopback by default. Here the edge checks Host and Origin."""
    if getattr(session_manager, "security_settings", None) is not None:
        session_manager.security_settings = None


def _routes(app):
    """The routes of a web application inside its middleware."""
    while app is not None:
        if routes := getattr(app, "routes", None):
            return routes
        app = getattr(app, "app", None)
    return ()


def mcp_endpoints(routes, prefix=""):
    """Path and object of each MCP endpoint in the routes of a web application and of those mounted in it."""
    found = []
    for route in routes:
        path = prefix + getattr(route, "path", "")
        inner = mcp_endpoints(getattr(route, "routes", None) or (), path)
        endpoint = _mcp_endpoint(getattr(route, "endpoint", None))
        if endpoint is not None:
            inner.append((path, endpoint))
        elif not inner and path == MCP_PATH and not hasattr(route, "endpoint"):
            # Mounted by hand: a mount answers below its path, and redirects from the path itself.
            inner.append((path + "/", None))
        found += inner
    return found


def _mcp_endpoint(endpoint):
    # Both SDKs and FastMCP name it so, and put it inside their authentication.
    while endpoint is not None:
        if type(endpoint).__name__ == "StreamableHTTPASGIApp":
            return endpoint
        endpoint = getattr(endpoint, "app", None)
    return None


def _fastmcp(server):
    options = {"path": MCP_PATH, "transport": "http"}
    known = inspect.signature(server.http_app).parameters
    # The edge checks Host and Origin; the guard would refuse the public host. A project may still ask for it.
    if "host_origin_protection" in known and "FASTMCP_HTTP_HOST_ORIGIN_PROTECTION" not in os.environ:
        options["host_origin_protection"] = False
    return server.http_app(**options)


def _sdk1(server):
    # Decided in the constructor from the default host 127.0.0.1: it would answer 421 to the public host.
    server.settings.transport_security = None
    server.settings.streamable_http_path = MCP_PATH
    app = server.streamable_http_app()
    # Made earlier, and kept, when the project builds an application of its own too.
    _drop_host_guard(server.session_manager)
    return app


def _sdk2(server):
    # A host that is not loopback leaves the Host guard off.
    return server.streamable_http_app(streamable_http_path=MCP_PATH, host="0.0.0.0")


def _lowlevel(server):
    if hasattr(server, "streamable_http_app"):
        return _sdk2(server)
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from starlette.applications import Starlette
    from starlette.routing import Route

    manager = StreamableHTTPSessionManager(app=server)

    class Endpoint:
        async def __call__(self, scope, receive, send):
            await manager.handle_request(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(_app):
        async with manager.run():
            yield

    return Starlette(routes=[Route(MCP_PATH, endpoint=Endpoint())], lifespan=lifespan)


def _answer_at(app, path):
    """Answers /mcp and /mcp/ at `path`, instead of redirecting from one to the other."""

    async def answer(scope, receive, send):
        if scope["type"] == "http" and scope["path"] in (MCP_PATH, MCP_PATH + "/"):
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await app(scope, receive, send)

    return answer
