"""The build's input: one JSON file that the runner wrote, and where things are mounted."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from .tool import BuildFailure

KINDS = ("requirements", "uv-lock", "pyproject", "poetry", "fastmcp-json", "none")


@dataclass(frozen=True)
class Places:
    """The mounts of a build container. Only tests give others than the defaults."""

    plan: Path = Path("/run/berth/plan.json")
    app: Path = Path("/app")
    environment: Path = Path("/env")
    cache: Path = Path("/cache")
    out: Path = Path("/out")

    @classmethod
    def from_environment(cls):
        """The defaults, each replaceable by BERTH_PLAN, BERTH_APP_DIR, BERTH_ENV_DIR, BERTH_CACHE_DIR, BERTH_OUT_DIR."""
        names = {"plan": "BERTH_PLAN", "environment": "BERTH_ENV_DIR"}
        chosen = {name: os.environ.get(names.get(name, f"BERTH_{name.upper()}_DIR")) for name in cls.__dataclass_fields__}
        return cls(**{name: Path(value).resolve() for name, value in chosen.items() if value})


@dataclass(frozen=True)
class Plan:
    """What to build."""

    python: str
    """`3.11`: the version that must be there; nothing is downloaded."""
    kind: str
    """One of KINDS."""
    path: str | None
    """The declaring file, relative to the source."""
    packages: tuple[str, ...]
    """Requirements beside those of `path`."""
    lock: str | None
    """The text of an earlier build's lock; nothing is resolved then."""
    known: frozenset[str]
    """SHA-256 of the locks whose environments exist already."""
    is_lock_only: bool
    """Whether nothing is installed."""
    is_begun: bool
    """Whether /env holds an environment with some of the lock's packages."""


def read(path):
    """Reads the plan; what is wrong with it is the platform's fault and says so."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        source = raw["source"]
        if source["kind"] not in KINDS:
            raise ValueError(f"unknown kind {source['kind']!r}")
        return Plan(
            python=raw["python"],
            kind=source["kind"],
            path=source.get("path"),
            packages=tuple(source.get("packages") or ()),
            lock=raw.get("lock"),
            known=frozenset(raw.get("known") or ()),
            is_lock_only=raw.get("lock_only", False),
            is_begun=raw.get("begun", False),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildFailure("resolve", "unknown", f"The platform wrote a build plan that cannot be read: {error}") from None
