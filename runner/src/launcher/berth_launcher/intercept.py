"""Keeps a project from serving by itself while its code is loaded.

`mcp.run()` at module level, or in the `main()` that an entrypoint names, would serve standard input or another port and
never return. While loading, such calls only record the server; serving it is our part.
"""

import contextlib
import inspect
import sys

from . import servers

RUN_METHODS = (
    "run",
    "run_async",
    "run_http_async",
    "run_sse_async",
    "run_stdio_async",
    "run_streamable_http_async",
)


@contextlib.contextmanager
def recorded_runs():
    """Yields a list that gets every server whose run method is called; each once, in order."""
    runs, replaced = [], []
    for kind in servers.HIGH_LEVEL + servers.LOW_LEVEL:
        owner = servers.loaded_class(kind)
        for name in RUN_METHODS:
            for base in getattr(owner, "__mro__", ()):
                if name in vars(base):
                    replaced.append((base, name, vars(base)[name]))
                    setattr(base, name, _recorder(vars(base)[name], runs))
                    break
    if uvicorn := sys.modules.get("uvicorn"):
        replaced += [(uvicorn, "run", uvicorn.run), (uvicorn.Server, "serve", uvicorn.Server.serve)]
        uvicorn.run = lambda app, *_arguments, **options: _record_application(app, options.get("factory"), runs)
        uvicorn.Server.serve = _serve_recorder(runs)
    try:
        yield runs
    finally:
        for owner, name, original in reversed(replaced):
            setattr(owner, name, original)


def _record(server, runs):
    if all(server is not known for known in runs):
        runs.append(server)


def _record_application(app, factory, runs):
    """uvicorn takes an application, its `module:name`, or a factory of it."""
    if isinstance(app, str):
        from uvicorn.importer import import_from_string

        app = import_from_string(app)
    _record(app() if factory else app, runs)


def _serve_recorder(runs):
    async def serve(self, *_arguments, **_options):
        _record_application(self.config.app, self.config.factory, runs)

    return serve


def _recorder(original, runs):

    if inspect.iscoroutinefunction(original):

        async def run(self, *arguments, **_options):
            _record(self, runs)
            # A low-level server gets its transport's streams; the transport waits until they are closed.
            for argument in arguments:
                if hasattr(argument, "aclose"):
                    await argument.aclose()

    else:

        def run(self, *_arguments, **_options):
            _record(self, runs)

    return run
