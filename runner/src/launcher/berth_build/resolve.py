"""From what a project declares to a lock: pinned packages, each with its hashes.

A lock is a requirements file. Comments that begin with `# berth:` are ours: `project NAME VERSION` is the project
itself, whose code is not installed but found beside its dependencies; `local PATH SHA256` marks a package that is built
from the project's own source.
"""

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from .tool import BuildFailure, uv

try:
    import tomllib
except ModuleNotFoundError:
    # Python 3.10. uv reads the file itself then; only what we check beforehand is missing.
    tomllib = None

# What no build needs and what may be large.
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "venv", "node_modules", "__pycache__")

# A requirement by name, as in `idna==3.10 --hash=sha256:…`, an included file, a comment, and a hash.
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
INCLUDED = re.compile(r"(?:-r|--requirement)[= ]?\s*(?P<path>\S+)")
COMMENT = re.compile(r"(^|\s)#.*")
HASH = re.compile(r"--hash[= ]\s*(\S+)")

LOCAL_LINE = re.compile(r"^(?:-e |--editable )?(?P<path>(?:file://|\.{1,2}/|/|\.$)[^\s;#]*)")


def resolve(plan, places, python):
    """The lock's text. The source is read-only: what must be built is built from a copy."""
    if plan.kind == "uv-lock":
        raw, root = _export(plan, places, python), places.app
    else:
        raw, root = _compile(plan, places, python)
    # uv writes paths relative to where it ran: beside the declaring file; those of a lock, beside the lock.
    base = (root / plan.path).parent if plan.path else root
    if plan.kind == "uv-lock":
        base = next((above for above in [base, *base.parents] if (above / "uv.lock").is_file()), base)
    return _with_notes(raw, root, base, _project_file(plan, places))


def _project_file(plan, places):
    if plan.kind in ("uv-lock", "pyproject") and plan.path:
        return places.app / plan.path
    return places.app / "pyproject.toml"


def _export(plan, places, python):
    directory = _existing(places.app, plan.path or "pyproject.toml").parent
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch, "lock.txt")
        arguments = ["export", "--quiet", "--locked", "--no-dev", "--no-emit-project", "--no-header", "--no-annotate"]
        arguments += ["--format", "requirements.txt", "--python", python, "--project", str(directory)]
        uv("resolve", [*arguments, "--output-file", str(output)], directory, places.cache)
        return output.read_text(encoding="utf-8")


def _compile(plan, places, python):
    root = places.app
    inputs = []
    with tempfile.TemporaryDirectory() as scratch:
        if plan.kind == "pyproject":
            path = _existing(places.app, plan.path or "pyproject.toml")
            _check_python(path, places, python)
            if not _is_static(path):
                root = copy_source(places.app)
                path = root / path.relative_to(places.app)
            inputs.append(str(path))
        elif plan.path and plan.kind != "poetry":
            inputs.append(str(_existing(places.app, plan.path)))
        if plan.packages:
            extra = Path(scratch, "packages.txt")
            extra.write_text("\n".join(plan.packages) + "\n", encoding="utf-8")
            inputs.append(str(extra))
        if not inputs:
            return "", root
        output = Path(scratch, "lock.txt")
        arguments = ["pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"]
        arguments += ["--python", python, "--output-file", str(output), "--", *inputs]
        uv("resolve", arguments, Path(inputs[0]).parent if plan.path else root, places.cache)
        raw = output.read_text(encoding="utf-8")
        if plan.kind == "requirements":
            raw = with_declared_hashes(raw, declared_hashes(Path(inputs[0]), places.app))
        return raw, root


def declared_hashes(path, app, seen=None):
    """The hashes that a requirements file, and what it includes, gives for packages by their normal names."""
    seen = set() if seen is None else seen
    path = path.resolve()
    # What is included from elsewhere, uv has read; hashes are looked for in the project's own files.
    if path in seen or not path.is_relative_to(app) or not path.is_file():
        return {}
    seen.add(path)
    declared = {}
    for line in re.sub(r"\\\r?\n", " ", path.read_text(encoding="utf-8", errors="replace")).splitlines():
        line = COMMENT.sub("", line).strip()
        if included := INCLUDED.match(line):
            more = declared_hashes(path.parent / included["path"], app, seen)
        elif name := NAME.match(line):
            more = {normal(name[0]): set(HASH.findall(line))}
        else:
            continue
        for package, hashes in more.items():
            declared.setdefault(package, set()).update(hashes)
    return {package: hashes for package, hashes in declared.items() if hashes}


def with_declared_hashes(lock, declared):
    """The lock with the hashes that the project gives in place of the index's: what it pinned is what is installed,
    even where the index has something else by now."""
    lines, ours = [], False
    for line in lock.splitlines():
        if name := NAME.match(line):
            hashes = sorted(declared.get(normal(name[0]), ()))
            ours = bool(hashes)
            if ours:
                requirement = HASH.sub("", line).rstrip("\\ ")
                line = " \\\n".join([requirement, *(f"    --hash={digest}" for digest in hashes)])
        elif ours and line.lstrip().startswith("--hash"):
            continue
        lines.append(line)
    return "\n".join(lines) + "\n"


def normal(name):
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _existing(app, relative):
    path = (app / relative).resolve()
    if not path.is_relative_to(app) or not path.is_file():
        raise BuildFailure("resolve", "missing_file", f"{relative} does not exist in the project.")
    return path


def _is_static(path):
    """Whether the dependencies stand in the file itself, so that no build backend has to run."""
    project = _toml(path).get("project")
    return bool(project) and "dependencies" not in project.get("dynamic", [])


def _check_python(path, places, python):
    """uv's resolver does not look at the project's own requires-python."""
    wanted = _toml(path).get("project", {}).get("requires-python")
    if not wanted:
        return
    try:
        uv("resolve", ["python", "find", "--quiet", "--no-project", "--system", "--", wanted], places.app, places.cache)
    except BuildFailure as failure:
        if failure.code != "python_version":
            # uv itself has a reason not to work here.
            raise
        raise BuildFailure(
            "resolve",
            "python_version",
            f"{path.name} requires Python {wanted}, and this runtime is Python {python.rpartition('python')[2]}. "
            "Change requires-python, or choose a runtime with that version.",
        ) from None


def _toml(path):
    if tomllib is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildFailure("resolve", "invalid_requirement", f"{path.name} cannot be read: {error}") from None


def copy_source(app):
    """A writable copy of the source, for build backends that write beside what they build."""
    target = Path(tempfile.mkdtemp(prefix="source-"))
    copy_tree(app, target, NOT_COPIED)
    return target


def copy_tree(source, target, ignore):
    """Copies all but `ignore`, into directories that may be written: those of stored sources may not."""
    shutil.copytree(source, target, symlinks=True, ignore=ignore, dirs_exist_ok=True)
    for directory, names, _ in os.walk(target):
        for name in [".", *names]:
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(0o755)


def _with_notes(raw, root, base, project_file):
    """Replaces local packages by what stays true without their paths: the project by a note, others by content."""
    lines, notes = [], []
    for line in raw.splitlines():
        match = LOCAL_LINE.match(line)
        if not match:
            lines.append(line)
            continue
        path = (base / match["path"].removeprefix("file://")).resolve()
        if path == root or not path.is_relative_to(root):
            # The project's own code is not installed: it is mounted, and on the import path.
            continue
        relative = path.relative_to(root).as_posix()
        notes.append(f"# berth:local ./{relative} {_content_hash(path)}")
    if project_file.is_file() and (project := _toml(project_file).get("project", {})).get("name"):
        notes.append(f"# berth:project {project['name']} {project.get('version') or '0'}")
    return "\n".join([*lines, *notes]) + "\n"


def _content_hash(path):
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    for file in files:
        digest.update(file.relative_to(path).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def notes(lock, name):
    """The values of our notes of one name, each split at blanks."""
    return [line.split()[2:] for line in lock.splitlines() if line.startswith(f"# berth:{name} ")]


def pinned(lock):
    """How many packages a lock pins."""
    return sum(1 for line in lock.splitlines() if line[:1].isalnum())
