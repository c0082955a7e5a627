"""The two steps of a start: `prepare` (the environment) and `run` (the project)."""

import asyncio
import contextlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import platform
import signal
import sys
from dataclasses import dataclass

from . import command, entrypoint, intercept, listen, servers
from .failure import LaunchFailure
from .report import Stopwatch, emit

# What a server imports sooner or later, in the order in which one stands on the other. Only what the environment has.
HEAVY_MODULES = ("fastmcp.server.server", "uvicorn", "starlette.applications")
# What FastMCP puts off until the first request, where it would cost the first caller 0.2 s.
PUT_OFF_MODULES = (
    "key_value.aio.stores.memory",
    "key_value.aio.adapters.pydantic",
    "fastmcp.server.providers.prefab_synthesis",
)
SDK_MODULES = {"1": ("mcp.server.fastmcp", "mcp.server.streamable_http_manager"), "2": ("mcp.server.mcpserver",)}
REPORTED_PACKAGES = ("fastmcp", "mcp")


@dataclass
class Progress:
    """Where a start is, for the report of its failure."""

    step: str = "import"
    serving: bool = False


@dataclass(frozen=True)
class Loaded:
    """What the project's code gave: the server, or the awaitable of an async factory."""

    made: object
    name: str
    file: str
    notice: str | None


def prepare():
    """Imports the environment's heavy packages. What cannot be imported is left for the project's own import to meet."""
    clock = Stopwatch()
    packages, skipped = {}, {}
    for name in REPORTED_PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    wanted = [*HEAVY_MODULES]
    if "fastmcp" in packages:
        wanted += PUT_OFF_MODULES
    else:
        wanted += SDK_MODULES.get(packages.get("mcp", "")[:1], ())
    for name in wanted:
        try:
            if importlib.util.find_spec(name) is not None:
                importlib.import_module(name)
        except Exception as error:
            # Not having a package, or a version without the module, is no finding.
            if not (isinstance(error, ModuleNotFoundError) and error.name and name.startswith(error.name)):
                skipped[name] = f"{type(error).__name__}: {error}"
    emit("prepare", ms=clock.lap(), python=platform.python_version(), packages=packages, skipped=skipped)


def replace(settings):
    """Becomes the start command; SIGTERM reaches it then as it would reach us."""
    values = {"PORT": str(settings.port), "HOST": os.environ.get("HOST", "0.0.0.0")}
    arguments = command.expand(settings.command, values)
    environment = command.environment(os.environ)
    program = command.find(arguments[0], environment, settings.working_dir)
    if program is None:
        raise LaunchFailure(
            "serve",
            f"The start command's program {arguments[0]!r} is not there. Name one of the environment, of the image or, "
            "with its path, of the source; a shell's own words are no programs.",
        )
    emit("import", ms=0, file=arguments[0], module=None)
    sys.stdout.flush()
    os.execve(program, arguments, environment)


def run(settings, progress):
    """Loads the project's code and serves its server until SIGTERM."""
    with contextlib.ExitStack() as loading:
        runs = loading.enter_context(intercept.recorded_runs())
        loaded = _load(settings, progress, runs)
        if not inspect.isawaitable(loaded.made):
            loading.close()
        asyncio.run(_serve(loaded, settings, progress, runs, loading))


def _load(settings, progress, runs):
    """Imports the code outside any event loop, and calls a factory there too."""
    clock = Stopwatch()
    progress.step = "entrypoint"
    chosen = entrypoint.parse(settings.entrypoint, settings.app_dir)
    file = str(chosen.file.relative_to(settings.app_dir)) if chosen.file else chosen.module
    sys.argv[:] = [str(chosen.file or chosen.module), *settings.arguments]
    progress.step = "import"
    module = entrypoint.import_module(chosen, settings.app_dir)
    emit("import", ms=clock.lap(), file=file, module=module.__name__)
    progress.step = "object"
    found, name, notice = entrypoint.look_up(module, chosen.object, file, runs)
    if runs and not notice:
        notice = f'{file} starts its server when imported; that was skipped. Put it under if __name__ == "__main__".'
    if _kind(found) is None:
        progress.step = "factory"
        found = _call_factory(found, name, file, runs, entrypoint.candidates(module))
        emit("factory", ms=clock.lap(), object=name)
    return Loaded(found, name, file, notice)


def _kind(found):
    return servers.kind_of(found) or ("asgi" if servers.is_asgi_callable(found) else None)


def _call_factory(found, name, file, runs, candidates):
    if not callable(found) or isinstance(found, type):
        raise LaunchFailure("object", _not_a_server(found, name, file), candidates)
    if missing := entrypoint.required_arguments(found):
        raise LaunchFailure(
            "factory",
            f"{file}:{name} needs arguments ({', '.join(missing)}); a factory takes none. Give them defaults.",
        )
    try:
        made = found()
    except SystemExit:
        # Command-line programs end the process when their server is done; ours has only begun.
        if not runs:
            raise
        made = None
    return _run_instead(made, runs)


def _run_instead(made, runs):
    """A `main()` makes its server, runs it, and returns nothing."""
    return runs[-1] if not _kind(made) and not inspect.isawaitable(made) and runs else made


async def _serve(loaded, settings, progress, runs, loading):
    made, clock = loaded.made, Stopwatch()
    if inspect.isawaitable(made):
        made = _run_instead(await made, runs)
        loading.close()
    restore_streams()
    kind = _kind(made)
    if kind is None:
        raise LaunchFailure(progress.step, _not_a_server(made, loaded.name, loaded.file))
    progress.step = "serve"
    app, moved = servers.application(made, kind)
    notice = " ".join(filter(None, (loaded.notice, moved))) or None

    def started():
        progress.serving = True
        place = {"object": loaded.name, "file": loaded.file, "port": settings.port}
        emit("serve", ms=clock.lap(), kind=kind, **place, notice=notice)

    # uvicorn raises the signal that stopped it once more when it is done; end normally then, so that exit hooks run.
    signal.signal(signal.SIGTERM, lambda *_: None if progress.serving else os._exit(128 + signal.SIGTERM))
    await listen.serve(app, "auto" if kind == "asgi" else "on", settings.port, started)


def restore_streams():
    """Opens standard output and error again: serving standard input and output closes them at its end."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or stream.closed or stream.buffer.closed:
            stream = open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
            setattr(sys, name, stream)


def _not_a_server(found, name, file):
    if found is None:
        return f"{file}:{name} returned nothing. A factory must return the server, for example a FastMCP object."
    article = "an" if type(found).__name__[0] in "aeiouAEIOU" else "a"
    what = f"the class {found.__name__}" if isinstance(found, type) else f"{article} {type(found).__name__}"
    return f"{file}:{name} is {what}, not an MCP server. Name a FastMCP or MCPServer object, or a function that returns one."
