"""The input of a Node build: one JSON file that the runner wrote, and where things are mounted."""

import json
from dataclasses import dataclass
from pathlib import Path

from berth_build import plan
from berth_build.tool import BuildFailure

INSTALLERS = ("npm", "pnpm", "yarn", "yarn-berry")
STAGES = ("dependencies", "app")


@dataclass(frozen=True)
class Places(plan.Places):
    """The mounts of a Node build's container."""

    source: Path = Path("/source")
    """The source where it is not at `app`; BERTH_SOURCE_DIR."""


@dataclass(frozen=True)
class Plan:
    """What to do."""

    stage: str
    """`dependencies` makes the packages' directory, `app` builds the code."""
    directory: str
    """Where package.json is, relative to the source."""
    installer: str
    """One of INSTALLERS."""
    version: str | None
    """The installer's version; None is the image's own."""
    lock_file: str
    """The installer's lock file by name."""
    has_lock: bool
    """Whether the source has it."""
    script: str | None
    """The build script, if there is one."""
    command: list
    """The build command: program and arguments; empty where there is none."""
    builds: bool
    """Whether the code is built by either of them."""
    keep_dev: bool
    """Whether devDependencies stay after the build."""
    in_place: bool
    """Whether packages are installed in the source's own tree, because they depend on it."""
    mark: str
    """What the result is recorded as, where it has no lock of its own."""
    lock: str | None
    """The record of an earlier build of the same inputs."""
    known: frozenset[str]
    """SHA-256 of the records whose results exist already."""


def read(path):
    """Reads the plan; what is wrong with it is the platform's fault and says so."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        source = raw["source"]
        if source["stage"] not in STAGES or source["installer"] not in INSTALLERS:
            raise ValueError(f"unknown stage or installer {source['stage']!r}, {source['installer']!r}")
        names = set(Plan.__dataclass_fields__) - {"lock", "known"}
        return Plan(**{name: source[name] for name in names}, lock=raw.get("lock"), known=frozenset(raw.get("known") or ()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildFailure("resolve", "unknown", f"The build plan cannot be read: {type(error).__name__}: {error}") from None
