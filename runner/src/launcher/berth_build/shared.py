"""Wheels that all projects share: fetched from the machine's own index, checked against a lock's hashes, unpacked and
compiled once, and linked into each environment.

uv does the work, with its cache as the store; this module decides what may go that way. It runs no code of a wheel and
no build backend, sees no variable of a project, and takes nothing from a lock but names, versions, markers and hashes:
so whatever a project's build made of its lock, all that can come in are files of the index with the bytes of a hash.

uv starts the environment's Python each time to ask it about itself, and a Python runs the `.pth` files that it finds.
So wheels are installed beside the environment, and become part of it when no Python of it is started any more.
"""

import hashlib
import importlib.util
import json
import os
import re
import resource
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from berth_launcher.report import Stopwatch

from . import bytecode
from .install import write_metadata
from .resolve import normal, notes
from .tool import interpreter

# A pinned requirement of a lock with nothing in it that leads elsewhere: no URL, no path, no option.
REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+_-]+)"
    r"(?P<marker>\s*;[\w\s.,'\"<>=!~()-]+?)?(?P<hashes>(?:\s+--hash=sha256:[0-9a-f]{64})+)\s*"
)

# A name and a version that are safe in a path.
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")

# The package that uv could not take as a wheel with such a hash.
NAMED = (
    re.compile(r"Wheels are required for `(?P<package>[\w.-]+)`"),
    re.compile(r"Hash mismatch for `(?P<package>[\w.-]+?)(?:==|`)"),
    re.compile(r"Failed to [\w ]+ `(?P<package>[\w.-]+?)(?:==|`)"),
    re.compile(r"Because (?P<package>[\w.-]+?)(?:==\S+)? (?:has no|was not found)"),
    re.compile(r"there (?:is|are) no versions? of (?P<package>[\w.-]+?)(?:==|\s)"),
)

# uv names one package at a time. Projects with more that are no wheels of the index are rare, and wait for no more.
MOST_ATTEMPTS = 12

# The largest file of a wheel, bytes. Those of the largest frameworks have some 2 GiB.
MOST_FILE_BYTES = 4 << 30

# What one job may take from the disk, and what it must leave there. A wheel that unpacks to more is not for all.
MOST_JOB_BYTES = 16 << 30
FREE_BYTES = 2 << 30
FREE_FILES = 50_000

# The directory of an environment that holds its wheels while Python is not to see them.
BESIDE = ".wheels"

# How often the disk is looked at while uv works.
LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Places:
    """The mounts. Only tests give others than the defaults."""

    job: Path = Path("/run/berth/job")
    store: Path = Path("/wheels")
    environment: Path = Path("/env")

    @classmethod
    def from_environment(cls):
        """The defaults, each replaceable by BERTH_JOB_DIR, BERTH_STORE_DIR, BERTH_ENVIRONMENT_DIR."""
        chosen = {name: os.environ.get(f"BERTH_{name.upper()}_DIR") for name in cls.__dataclass_fields__}
        return cls(**{name: Path(value).resolve() for name, value in chosen.items() if value})


@dataclass(frozen=True)
class Requirement:
    """One pinned package."""

    name: str
    line: str

    @property
    def key(self):
        """Names it among those that were installed before."""
        return hashlib.sha256(self.line.encode()).hexdigest()


@dataclass
class Done:
    """What came of a job."""

    here: int = 0
    fetched: int = 0
    left: list = field(default_factory=list)
    compiled: int = 0
    compile_ms: int = 0

    def summary(self):
        """One line for the build's log."""
        text = f"Packages: {self.here} were on this machine, {self.fetched} were downloaded"
        if not self.left:
            return text + "."
        names = ", ".join(self.left[:8]) + (" …" if len(self.left) > 8 else "")
        return f"{text}, {len(self.left)} are this project's own to install: {names}."


class Unshared(Exception):
    """uv did not install a set of wheels; `package` is the one it names, or None."""

    def __init__(self, package):
        super().__init__(package)
        self.package = package


@dataclass(frozen=True)
class Job:
    """One environment."""

    places: Places
    python: str
    target: Path
    """The environment's directory by its path in the store: hard links do not cross mounts."""

    @property
    def beside(self):
        """Where wheels are installed before they are part of the environment."""
        return self.target / BESIDE

    @classmethod
    def read(cls, places):
        """Reads the plan that the runner wrote."""
        plan = json.loads((places.job / "plan.json").read_text(encoding="utf-8"))
        return cls(places, interpreter(plan["python"]), places.store / plan["environment"])

    def make_environment(self):
        """An empty virtual environment, made while nobody waits for it yet."""
        place = os.fspath(self.places.environment)
        subprocess.run(
            [_uv(), "venv", "--quiet", "--no-project", "--python", self.python, "--", place],
            env=self._variables(),
            check=True,
        )

    def wait(self):
        """Whether there is a lock to install."""
        with open(self.places.job / "gate", encoding="utf-8") as gate:
            return gate.readline() == "go\n"

    def install(self):
        """Installs all of the lock that may be shared."""
        lock = (self.places.job / "lock.txt").read_text(encoding="utf-8")
        requirements, left = split(lock)
        known = self._known()
        here = [requirement for requirement in requirements if (known / requirement.key).exists()]
        done = Done(left=left)
        new = self._fetch([requirement for requirement in requirements if requirement not in here], done)
        self._compile(done)
        try:
            self._uv_install(here, "--offline")
            done.here = len(here)
        except Unshared:
            # Something of it was cleaned away.
            new += self._fetch(here, done)
            self._compile(done)
            here = []
        move_into(self.beside, self.target)
        for name, version in projects(lock):
            write_metadata(self.target, name, version)
        secure(self.target)
        for requirement in [*here, *new]:
            (known / requirement.key).touch()
        return done

    def _fetch(self, requirements, done):
        """Installs those that the index has as wheels with their hashes; the others are left."""
        for _ in range(MOST_ATTEMPTS):
            try:
                self._uv_install(requirements)
                done.fetched += len(requirements)
                return requirements
            except Unshared as unshared:
                named = [requirement for requirement in requirements if requirement.name == unshared.package]
                if not named:
                    break
                done.left.append(unshared.package)
                requirements = [requirement for requirement in requirements if requirement not in named]
        done.left += [requirement.name for requirement in requirements]
        return []

    def _uv_install(self, requirements, *more):
        if not requirements:
            return
        arguments = ["pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
        arguments += ["--link-mode", "hardlink", "--python", os.fspath(self.places.environment / "bin/python")]
        # The interpreter's own path stands in scripts; the files go there by the store's path, to be links.
        arguments += ["--prefix", os.fspath(self.beside), *more]
        with tempfile.TemporaryDirectory() as scratch:
            locked = Path(scratch, "lock.txt")
            locked.write_text("".join(requirement.line + "\n" for requirement in requirements), encoding="utf-8")
            self._run([_uv(), *arguments, "--requirements", os.fspath(locked)])

    def _run(self, command):
        def bound():
            resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_FILE_BYTES, MOST_FILE_BYTES))

        disk = Disk(self.target)
        process = subprocess.Popen(
            command,
            cwd="/",
            env=self._variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            preexec_fn=bound,
        )
        while True:
            try:
                output, _ = process.communicate(timeout=LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if disk.is_used_up():
                    process.kill()
        if process.returncode:
            raise Unshared(named(output))

    def _compile(self, done):
        clock = Stopwatch()
        done.compiled += bytecode.compile_shared(self.beside, self.places.store / "cache")
        done.compile_ms += clock.lap()

    def _known(self):
        """Where what was installed and compiled before for this Python is noted."""
        known = self.places.store / "known" / importlib.util.MAGIC_NUMBER.hex()
        known.mkdir(parents=True, exist_ok=True)
        return known

    def _variables(self):
        """The machine's own settings, and nothing that a file could say."""
        return {
            **os.environ,
            "UV_CACHE_DIR": os.fspath(self.places.store / "cache"),
            "UV_NO_CONFIG": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
            "UV_KEYRING_PROVIDER": "disabled",
            "NO_COLOR": "1",
        }


class Disk:
    """What a job may take of it."""

    def __init__(self, path):
        self._path = path
        self._before = self._free()

    def _free(self):
        found = os.statvfs(self._path)
        return found.f_bavail * found.f_frsize, found.f_favail

    def is_used_up(self):
        """Whether too much was taken since, or too little is left."""
        space, files = self._free()
        return space < FREE_BYTES or files < FREE_FILES or self._before[0] - space > MOST_JOB_BYTES


def split(lock):
    """A lock's requirements that may be shared, and the names of what may not: packages from elsewhere or without a
    hash, parts of the project itself."""
    shared, left = [], []
    for entry in entries(lock):
        if match := REQUIREMENT.fullmatch(entry):
            hashes = " ".join(sorted(match["hashes"].split()))
            line = f"{match['name']}=={match['version']}{match['marker'] or ''} {hashes}"
            shared.append(Requirement(normal(match["name"]), line))
        else:
            left.append(re.split(r"[\s=@;\[]", entry, maxsplit=1)[0])
    left += [values[0] for values in notes(lock, "local")]
    return shared, left


def projects(lock):
    """The name and version of the project itself, where a lock has them. They become part of a path, and a lock is
    only text that a project's build wrote."""
    return [values for values in notes(lock, "project") if len(values) == 2 and all(map(PLAIN.fullmatch, values))]


def entries(lock):
    """The lines of a requirements file, put together where they go on, without comments."""
    for line in lock.replace("\\\n", " ").splitlines():
        if (line := line.strip()) and not line.startswith("#"):
            yield line


def named(output):
    """The package that uv's message blames, by its normal name; None where it blames none."""
    text = " ".join(output.split())
    found = next(filter(None, (pattern.search(text) for pattern in NAMED)), None)
    return normal(found["package"]) if found else None


def move_into(beside, environment):
    """Makes the wheels part of the environment. What they have under a name of it replaces it, as when they are
    installed into it."""
    if not beside.exists():
        return
    left = [(beside, environment)]
    while left:
        directory, target = left.pop()
        for entry in os.scandir(directory):
            place = target / entry.name
            if entry.is_dir(follow_symlinks=False) and place.is_dir() and not place.is_symlink():
                left.append((Path(entry.path), place))
            else:
                os.rename(entry.path, place)
    shutil.rmtree(beside)


def secure(environment):
    """Leaves nothing that anyone but its owner could write: the files are other environments' too."""
    for directory, directories, files in os.walk(environment):
        for name in [*directories, *files]:
            path = os.path.join(directory, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                continue
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise PermissionError(f"{path} is no file")
            if mode & 0o7022:
                os.chmod(path, mode & 0o755)


def _uv():
    return os.environ.get("BERTH_UV", "uv")
