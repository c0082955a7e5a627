"""From an entrypoint to the object it names: find the file, import it, look the object up."""

import ast
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from . import servers
from .failure import LaunchFailure

# Where a server usually is when no entrypoint is set, in the order of preference.
USUAL_FILES = ("main.py", "server.py", "app.py", "src/main.py", "src/server.py", "src/app.py")

# The names `fastmcp run` looks for, in its order.
USUAL_OBJECTS = ("mcp", "server", "app")

# Used when the file's own name belongs to another module; the name `fastmcp run` gives.
FALLBACK_MODULE = "server_module"

# Directories that never hold the project's own entrypoint.
IGNORED_DIRECTORIES = {".git", ".venv", "venv", "node_modules", "__pycache__", "tests", "test", "site-packages"}

# A function with such a name and no required argument probably makes the server.
FACTORY_NAME = re.compile(r"^(create|make|build|get|new|init|setup)_?\w*(server|mcp|app)\w*$|^(main|run|serve)$")

SERVER_CLASSES = {name for kind, (_, name) in servers.CLASSES.items() if kind not in servers.WEB}


@dataclass(frozen=True)
class Entrypoint:
    """What to import and which object of it to serve."""

    file: Path | None
    """The file to import; None when `module` names it."""
    module: str | None
    """The module to import; None when `file` names it."""
    object: str | None
    """The object's name, possibly dotted; None for the usual names."""


def parse(text, app_dir):
    """Reads `file.py`, `file.py:object`, `package.module:object` or nothing."""
    if not text:
        return Entrypoint(_usual_file(app_dir), None, None)
    place, _, name = text.partition(":")
    if name and not all(part.isidentifier() for part in name.split(".")):
        raise LaunchFailure(
            "entrypoint",
            f"The entrypoint {text!r} names no object after the colon. Write file.py:object, for example main.py:mcp.",
        )
    if place.endswith(".py") or "/" in place:
        return Entrypoint(_named_file(place, app_dir), None, name or None)
    if all(part.isidentifier() for part in place.split(".")):
        return Entrypoint(None, place, name or None)
    raise LaunchFailure(
        "entrypoint",
        f"The entrypoint {text!r} is neither a file nor a module. Write file.py:object or package.module:object.",
    )


def _usual_file(app_dir):
    for name in USUAL_FILES:
        if (app_dir / name).is_file():
            return app_dir / name
    found = python_files(app_dir)
    if len(found) == 1:
        return app_dir / found[0]
    raise LaunchFailure(
        "entrypoint",
        "No entrypoint is set and the project has neither main.py nor server.py. "
        "Set the entrypoint to the file that makes the server, for example server.py:mcp.",
        found,
    )


def _named_file(place, app_dir):
    path = (app_dir / place).resolve()
    if not path.is_relative_to(app_dir):
        raise LaunchFailure("entrypoint", f"The entrypoint's file {place!r} lies outside the project.")
    if not path.is_file():
        found = python_files(app_dir)
        raise LaunchFailure(
            "entrypoint",
            f"The entrypoint's file {place!r} does not exist in the project. "
            + (f"It has {', '.join(found[:5])}." if found else "It has no Python file at its root or one level below."),
            found,
        )
    return path


def python_files(app_dir):
    """The Python files of the project's root and the directories one level below, relative, without tests."""
    found = [path for path in sorted(app_dir.glob("*.py")) if not path.name.startswith(("test_", "conftest"))]
    for path in sorted(app_dir.glob("*/*.py")):
        if path.parent.name not in IGNORED_DIRECTORIES and not path.name.startswith("test_"):
            found.append(path)
    found = [path for path in found if path.name not in ("__init__.py", "setup.py", "noxfile.py")]
    return [str(path.relative_to(app_dir)) for path in found]


def import_module(entrypoint, app_dir):
    """Imports the project's code, outside any event loop, under a name other than `__main__`."""
    roots = [str(app_dir)]
    if (app_dir / "src").is_dir():
        roots.append(str(app_dir / "src"))
    extra = [str((app_dir / part).resolve()) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    roots += [path for path in extra if path not in sys.path]
    sys.path[:0] = roots
    if entrypoint.file is None:
        return _import_named(entrypoint.module)
    return _import_file(entrypoint.file, [Path(root) for root in roots])


def _import_named(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only when the entrypoint itself is missing, not something that it imports.
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise LaunchFailure(
                "entrypoint",
                f"The entrypoint's module {name!r} does not exist in the project or its dependencies "
                f"(no module {error.name!r}). Write the path of the file instead, for example main.py:mcp.",
            ) from None
        raise


def _import_file(path, roots):
    name = _package_name(path, roots)
    directory = str(path.parent)
    if name and "." in name:
        # A file of a package may hold names of the standard library (types.py), so its directory comes last.
        if directory not in sys.path:
            sys.path.append(directory)
    else:
        if directory in sys.path:
            sys.path.remove(directory)
        sys.path.insert(0, directory)
        name = path.stem
    if _would_import(name, path):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(FALLBACK_MODULE, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[FALLBACK_MODULE] = module
    spec.loader.exec_module(module)
    return module


def _package_name(path, roots):
    """The dotted name of a file inside packages, so that its relative imports work; None outside one."""
    parts, directory = [path.stem], path.parent
    while directory not in roots and (directory / "__init__.py").is_file() and directory.name.isidentifier():
        parts.insert(0, directory.name)
        directory = directory.parent
    return ".".join(parts) if len(parts) > 1 else None


def _would_import(name, path):
    """Whether `import name` gives this very file; then other modules of the project that import it share it."""
    if name in sys.modules or not all(part.isidentifier() for part in name.split(".")):
        return False
    top = name.partition(".")[0]
    if top in sys.modules:
        return False
    try:
        spec = importlib.machinery.PathFinder.find_spec(top)
    except (ImportError, ValueError):
        return False
    if spec is None or top in sys.builtin_module_names:
        return False
    expected = path if "." not in name else path.parents[name.count(".") - 1] / "__init__.py"
    return bool(spec.origin) and Path(spec.origin).resolve() == expected


def look_up(module, name, file, runs):
    """The object to serve, its name, and a notice when it was not plainly named; `runs` are servers that it started."""
    if name:
        return _named(module, name, file), name, None
    for usual in USUAL_OBJECTS:
        if servers.kind_of(vars(module).get(usual)):
            return getattr(module, usual), usual, None
    found = candidates(module)
    best = _best(found, module)
    if best:
        return getattr(module, best), best, f"Serving {best}, the only server in {file}; set the entrypoint to say so."
    if not found and len(runs) == 1:
        return runs[0], "run()", f"Serving the server that {file} starts; make it at module level as mcp instead."
    if found:
        raise LaunchFailure(
            "object",
            f"{file} has several servers: {', '.join(found)}. Set the entrypoint to one of them: {file}:{found[0]}.",
            found,
        )
    raise LaunchFailure("object", *_nothing_found(module, file))


def _nothing_found(module, file):
    factories = factory_names(module)
    makers = _makers(module)
    for name in makers:
        if name not in factories and inspect.isfunction(vars(module).get(name)) and not required_arguments(vars(module)[name]):
            factories.insert(0, name)
    message = f"No server was found in {file}. "
    if factories:
        message += f"{factories[0]}() looks as if it made one: set the entrypoint to {file}:{factories[0]}."
    elif None in makers:
        message += 'It makes one only under if __name__ == "__main__"; make it at module level, before that line.'
    else:
        message += 'Create one at module level, for example mcp = FastMCP("name"), or set the entrypoint to its file.'
    return message, factories


def _makers(module):
    """Functions of the module in which a server's class is called; None stands for an `if` at module level."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError):
        return []
    names = []
    for node in tree.body:
        name = getattr(node, "name", None)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.If)) and name not in names:
            calls = (item.func for item in ast.walk(node) if isinstance(item, ast.Call))
            if any(getattr(call, "id", getattr(call, "attr", None)) in SERVER_CLASSES for call in calls):
                names.append(name)
    return names


def _named(module, name, file):
    found = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            present = candidates(module) + factory_names(module)
            has = f"It has {', '.join(present)}." if present else "It has no server at all."
            raise LaunchFailure("object", f"{file} has no object named {name!r}. {has}", present) from None
    return found


def candidates(module):
    """Names of the server objects at module level; an object with two names counts once."""
    seen, names = set(), []
    for name, value in vars(module).items():
        if not name.startswith("_") and id(value) not in seen and servers.kind_of(value):
            seen.add(id(value))
            names.append(name)
    return names


def _best(found, module):
    """The only one, or the only MCP server beside web applications made of it."""
    for kinds in (servers.HIGH_LEVEL, servers.LOW_LEVEL, servers.WEB):
        of_kind = [name for name in found if servers.kind_of(getattr(module, name)) in kinds]
        if of_kind:
            return of_kind[0] if len(of_kind) == 1 else None
    return None


def factory_names(module):
    """Functions of this module that take no argument and look as if they made a server."""
    names = []
    for name, value in vars(module).items():
        # Commands of click and typer are objects with a callback, and are called like functions.
        function = getattr(value, "callback", value)
        if inspect.isfunction(function) and function.__module__ == module.__name__ and FACTORY_NAME.match(name):
            if not required_arguments(value):
                names.append(name)
    return names


def required_arguments(function):
    """Names of the arguments that a call must give; empty when its signature cannot be read."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [item.name for item in parameters if item.default is item.empty and item.kind not in optional]
