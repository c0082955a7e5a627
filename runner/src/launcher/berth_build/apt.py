"""Downloads Debian packages with apt, as an unprivileged user, from the repositories that the image names."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .tool import BuildFailure

# The whole of what is downloaded; a browser with all its libraries stays below it.
MAX_DOWNLOAD_BYTES = 1024 * 1024 * 1024
# The whole of what it unpacks to.
MAX_INSTALLED_BYTES = 3 * 1024 * 1024 * 1024

# apt's summary, in the C locale: `Need to get 12.3 MB of archives.`, `After this operation, 40 MB of additional disk…`
SIZES = {
    "Need to get": MAX_DOWNLOAD_BYTES,
    "After this operation,": MAX_INSTALLED_BYTES,
}
UNITS = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3}


@dataclass(frozen=True)
class Work:
    """Where things are. Only tests give others than the defaults."""

    plan: Path = Path("/run/berth/plan.json")
    out: Path = Path("/out")

    @classmethod
    def from_environment(cls):
        """The defaults, each replaceable by BERTH_PLAN and BERTH_OUT_DIR."""
        chosen = {"plan": os.environ.get("BERTH_PLAN"), "out": os.environ.get("BERTH_OUT_DIR")}
        return cls(**{name: Path(value).resolve() for name, value in chosen.items() if value})

    def packages(self):
        """`name` or `name=version`; the runner has checked each."""
        return json.loads(self.plan.read_text(encoding="utf-8"))["packages"]


def download(packages, work):
    """Downloads the packages with what they depend on and the image has not; returns the archives, and writes their list."""
    options = _options(work.out / "apt")
    _apt(["apt-get", *options, "update"])
    # It lists what was read.
    if not _apt(["apt-get", *options, "indextargets"], shown=False).strip():
        raise BuildFailure("system", "system_unavailable", "The runtime image names no Debian repository.")
    known = set(_apt(["apt-cache", *options, "pkgnames"], shown=False).split())
    for package in packages:
        # What apt does not know by this very name it would take for a pattern.
        if package.partition("=")[0] not in known:
            raise BuildFailure(
                "system", "system_not_found", "The distribution has no package of that name.", package.partition("=")[0]
            )
    # Nothing that the image has may go, and nothing is configured or run.
    install = [*options, "install", "--no-install-recommends", "--no-remove"]
    summary = _apt(["apt-get", *install, "--simulate", "--", *packages], shown=False)
    # Asks whether to go on, and hears that it should not.
    _check_sizes(_apt(["apt-get", *install, "--assume-no", "--", *packages], shown=False, may_refuse=True))
    _apt(["apt-get", *install, "--yes", "--download-only", "--", *packages])
    installed = re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", summary, re.MULTILINE)
    listed = sorted(f"{name}={version}" for name, version in installed)
    (work.out / "packages.txt").write_text("".join(f"{line}\n" for line in listed), encoding="utf-8")
    return sorted((work.out / "apt/cache/archives").glob("*.deb"))


def _options(directory):
    """apt's own directories, where this user may write; the image's sources, keys and list of what it has."""
    for name in ("lists/partial", "cache/archives/partial", "log"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    settings = {
        "Dir::State::lists": directory / "lists",
        "Dir::State::extended_states": directory / "extended_states",
        "Dir::Cache": directory / "cache",
        "Dir::Log": directory / "log",
        "Debug::NoLocking": "true",
        # This is no root that could become another user.
        "APT::Sandbox::User": "",
        "Acquire::Retries": "3",
        "Acquire::Languages": "none",
    }
    for kind in ("http", "https"):
        if proxy := os.environ.get(f"{kind}_proxy") or os.environ.get(f"{kind.upper()}_PROXY"):
            settings[f"Acquire::{kind}::Proxy"] = proxy
    return [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]


def _apt(command, shown=True, may_refuse=False):
    """Runs a program of apt; its output goes to the log too where it is for people."""
    process = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
    )
    if shown or (process.returncode and not may_refuse):
        sys.stdout.write(process.stdout)
        sys.stdout.flush()
    if process.returncode and not may_refuse:
        raise BuildFailure("system", *_cause(process.stdout))
    return process.stdout


def _cause(output):
    """Code, message and package of a failure."""
    errors = [line[3:] for line in output.splitlines() if line.startswith("E: ")]
    message = " ".join(errors) or output.strip()[-500:]
    if match := re.search(r"Version '[^']*' for '([^']+)' was not found", output):
        return "system_not_found", message, match[1]
    if re.search(r"No space left on device", output):
        return "disk", message, None
    if re.search(r"has no installation candidate|Unable to locate package", output):
        return "system_not_found", message, None
    if re.search(r"Failed to fetch|Could not (?:resolve|connect)|Temporary failure resolving|sources could be read", output):
        return "system_network", message, None
    return "system_failed", message, None


def _check_sizes(summary):
    for beginning, most in SIZES.items():
        if match := re.search(rf"^{beginning} ([\d.,]+) ([kMG]?B)\b", summary, re.MULTILINE):
            size = float(match[1].replace(",", "")) * UNITS[match[2]]
            if size > most:
                raise BuildFailure(
                    "system",
                    "system_too_large",
                    f"The system packages take {match[1]} {match[2]}, and at most {most // 1024**2} MiB are allowed.",
                )
