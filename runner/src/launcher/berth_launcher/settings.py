"""What the runner tells an instance: environment variables, and one file for the project's own variables."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .failure import LaunchFailure

# Only defaults: a project's own variable of the same name wins.
DEFAULTS = {
    # FastMCP asks the package index for news at start, and waits for it where names do not resolve.
    "FASTMCP_CHECK_FOR_UPDATES": "off",
    # Rich wraps log lines to a terminal's width, which makes them unreadable for people and machines here.
    "FASTMCP_ENABLE_RICH_LOGGING": "false",
    "FASTMCP_ENABLE_RICH_TRACEBACKS": "false",
    "FASTMCP_SHOW_CLI_BANNER": "false",
    "FASTMCP_SHOW_SERVER_BANNER": "false",
    # FastMCP 2 knows no switch for Rich; a wide, dumb terminal keeps its lines whole and plain.
    "COLUMNS": "200",
    "NO_COLOR": "1",
    "TERM": "dumb",
    # Only the edge can reach the port, so the forwarding headers are the edge's.
    "FORWARDED_ALLOW_IPS": "*",
    # For the processes a server starts; our own streams are switched in serve.py.
    "PYTHONUNBUFFERED": "1",
}

# Set by the platform; a project's variable cannot change where its server listens or who it is.
RESERVED = ("PORT", "HOST")
RESERVED_PREFIX = "BERTH_"

DEFAULT_PORT = 8080


@dataclass(frozen=True)
class Settings:
    """How to start the project's server."""

    entrypoint: str
    """`file.py`, `file.py:object`, `package.module:object`, or empty for the usual files."""
    app_dir: Path
    """The project's source, absolute and resolved."""
    port: int
    """TCP port to listen on, on every address."""
    working_dir: Path
    """Where the server runs, absolute."""
    arguments: tuple[str, ...] = ()
    """What the server finds in sys.argv after its own name."""
    command: tuple[str, ...] = ()
    """Program and arguments that are the server instead; fastmcp.json's arguments are not theirs."""


def load():
    """Fills os.environ with defaults and the project's variables and returns the settings."""
    _load_variables(os.environ.pop("BERTH_VARIABLES_FILE", ""))
    app_dir = Path(os.environ.get("BERTH_APP_DIR") or "/app").resolve()
    if not app_dir.is_dir():
        raise LaunchFailure("entrypoint", f"The project's directory {app_dir} does not exist.")
    deployment, base = _deployment(app_dir)
    for name, value in {**DEFAULTS, **_file_variables(deployment)}.items():
        os.environ.setdefault(name, value)
    _make_home()
    port = os.environ.get("PORT") or str(DEFAULT_PORT)
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise LaunchFailure("serve", f"PORT is {port!r}; it must be a number from 1 to 65535.")
    working_dir = (base / str(deployment.get("cwd") or ".")).resolve()
    if not working_dir.is_dir():
        raise LaunchFailure("entrypoint", f"fastmcp.json names the directory {deployment['cwd']!r}, which does not exist.")
    arguments = tuple(str(item) for item in deployment.get("args") or ())
    command = tuple(json.loads(os.environ.pop("BERTH_START_COMMAND", "[]")))
    entrypoint = os.environ.get("BERTH_ENTRYPOINT", "").strip()
    return Settings(entrypoint, app_dir, int(port), working_dir, arguments, command)


def _deployment(app_dir):
    """The `deployment` section of the project's fastmcp.json and the directory its paths start from."""
    name = os.environ.get("BERTH_FASTMCP_JSON")
    if not name:
        return {}, app_dir
    path = app_dir / name
    try:
        deployment = json.loads(path.read_text(encoding="utf-8")).get("deployment") or {}
        if not isinstance(deployment, dict):
            raise ValueError("deployment is not an object")
    except (OSError, ValueError, AttributeError) as error:
        raise LaunchFailure("entrypoint", f"{name} cannot be read: {error}") from None
    return deployment, path.parent


def _file_variables(deployment):
    """`deployment.env` with ${NAME} replaced; an unknown name stays as it is. The project's own variables win."""
    variables = {}
    for name, value in (deployment.get("env") or {}).items():
        if name not in RESERVED and not name.startswith(RESERVED_PREFIX):
            variables[name] = re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], match[0]), str(value))
    return variables


def _load_variables(path):
    """Variables come in a file, because the engine shows a container's environment to everyone who may inspect it."""
    if not path:
        return
    try:
        variables = json.loads(Path(path).read_text(encoding="utf-8"))
        for name, value in variables.items():
            if name not in RESERVED and not name.startswith(RESERVED_PREFIX):
                os.environ[name] = value
    except (OSError, ValueError, TypeError, AttributeError) as error:
        # The file's content is secret: name the kind of error, never the text that failed to parse.
        raise LaunchFailure(
            "import",
            f"The project's variables cannot be read ({type(error).__name__}); this is the platform's fault. "
            "Deploy again, and tell the operator if it stays.",
        ) from None


def _make_home():
    """FastMCP keeps its files in a directory of the persistent volume that it expects to be there."""
    home = os.environ.get("FASTMCP_HOME")
    if home:
        try:
            os.makedirs(home, exist_ok=True)
        except OSError as error:
            print(f"FASTMCP_HOME {home} cannot be made: {error}", flush=True)
