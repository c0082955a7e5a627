"""Runs uv, lets its output through to the build log, and names the cause when it fails."""

import collections
import os
import re
import shutil
import subprocess
import sys

# Enough to hold the longest explanation of a resolver; the whole output is in the build log.
KEPT_LINES = 200

# Characters kept of each end of a long message; both together fit into a report.
MESSAGE_END = 950

# Causes by what uv prints, most specific first; `package` is the group where the text names one.
CAUSES = (
    ("disk", r"No space left on device|Disk quota exceeded|File too large|os error 2[78]"),
    ("out_of_memory", r"signal: 9 \(SIGKILL\)"),
    ("git_missing", r"Git executable not found"),
    ("lock_outdated", r"lockfile .* needs to be updated|Unable to find lockfile|Failed to parse `uv\.lock`"),
    ("hash_mismatch", r"Hash mismatch for `(?P<package>[\w.-]+)"),
    (
        "network",
        r"error sending request|dns error|client error \((?:Connect|SendRequest)\)|operation timed out"
        r"|HTTP status server error|Could not resolve host|UnknownIssuer",
    ),
    (
        "python_version",
        r"incompatible with the project's Python requirement|current Python version .* does not satisfy"
        r"|No interpreter found|requires a different Python|Python version .* not supported",
    ),
    ("not_found", r"Because (?P<package>[\w.-]+) was not found in the package registry"),
    ("not_found", r"HTTP status client error \(404"),
    ("build_failed", r"Failed to build `(?P<package>[\w.-]+)"),
    ("missing_file", r"failed to read from file|File not found|Distribution not found at|No such file or directory"),
    ("build_failed", r"Call to `.*` failed|build backend"),
    ("invalid_requirement", r"Couldn't parse requirement|Failed to parse|TOML parse error|Unsupported requirement"),
    ("no_solution", r"there (?:is|are) no versions? of (?P<package>[\w.-]+)"),
    ("no_solution", r"No solution found"),
)


class BuildFailure(Exception):
    """Why no environment came about; `code` is stable, `message` speaks to the project's owner."""

    def __init__(self, step, code, message, package=None):
        super().__init__(message)
        self.step, self.code, self.package = step, code, package


def uv(step, arguments, cwd, cache):
    """Runs uv in `cwd`; raises BuildFailure with the cause it printed."""
    environment = {
        **os.environ,
        "UV_CACHE_DIR": str(cache),
        # Cache and environment are two mounts, across which there are no hard links.
        "UV_LINK_MODE": "copy",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "NO_COLOR": "1",
    }
    # A build inside a virtual environment's shell must not leak it into this one.
    environment.pop("VIRTUAL_ENV", None)
    run(step, [os.environ.get("BERTH_UV", "uv"), *arguments], cwd, environment, cause, meaningful)


def run(step, command, cwd, environment, cause, meaningful, lines=None):
    """Runs a program in `cwd`; raises BuildFailure with what `cause` and `meaningful` make of its last lines. All that
    it prints is added to `lines`, if there is such a list."""
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
        )
    except OSError as error:
        raise BuildFailure(step, "unknown", f"{command[0]} cannot be run in the runtime image: {error}") from None
    kept = collections.deque(maxlen=KEPT_LINES)
    with process:
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            kept.append(line.rstrip())
            if lines is not None:
                lines.append(line.rstrip())
    if process.returncode:
        code, package = cause(kept)
        ended = f"{os.path.basename(command[0])} ended with {process.returncode}."
        raise BuildFailure(step, code, meaningful(kept) or ended, package)


def interpreter(version):
    """The path of the image's Python of that version; bytecode is compiled by the one that runs here."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = shutil.which(f"python{version}", path="/usr/local/bin:/usr/bin")
    if version != here or found is None:
        raise BuildFailure("resolve", "python_version", f"Python {version} is not in this runtime, which has Python {here}.")
    return found


def cause(lines):
    """The stable code of a failure, and the package it names or None."""
    text = " ".join(line.strip() for line in lines)
    for code, pattern in CAUSES:
        if match := re.search(pattern, text):
            return code, match.groupdict().get("package")
    return "unknown", None


def meaningful(lines):
    """The lines from the first error on, without hints about uv's own flags."""
    lines = [line for line in lines if line.strip()]
    start = next((index for index, line in enumerate(lines) if re.match(r"\s*(error:|×)", line)), max(0, len(lines) - 12))
    kept = []
    for line in lines[start:]:
        if line.startswith("hint:"):
            break
        kept.append(line)
    text = "\n".join(kept)
    if len(text) > 2 * MESSAGE_END:
        # What failed stands first, and why it failed last; a report is cut in length.
        text = f"{text[:MESSAGE_END]}\n…\n{text[-MESSAGE_END:]}"
    return text
