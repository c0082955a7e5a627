"""Files of a Node build: what the installers need of a source, and copies of it."""

import json
import shutil

from berth_build.resolve import copy_tree

# What no build needs and what may be large.
NOT_COPIED = shutil.ignore_patterns(".git", "node_modules")
# What decides how packages are installed, besides package.json and the lock.
SETTINGS = (".npmrc", "pnpm-workspace.yaml")


def manifest(directory):
    """package.json without its scripts: they belong to the code, and run with it."""
    whole = json.loads((directory / "package.json").read_text(encoding="utf-8-sig"))
    whole.pop("scripts", None)
    # A tool that is named here is fetched by us; the tools themselves would refuse others.
    whole.pop("packageManager", None)
    return whole


def write_declaration(source, target, lock_file, lock):
    """Puts what is declared into an empty directory; `lock` is the lock's text or None."""
    target.mkdir(parents=True, exist_ok=True)
    (target / "package.json").write_text(json.dumps(manifest(source), indent=2), encoding="utf-8")
    for name in SETTINGS:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    if lock is not None:
        (target / lock_file).write_text(lock, encoding="utf-8")


def remove_declaration(directory, lock_file):
    """Leaves nothing in `directory` but the packages."""
    for name in ("package.json", lock_file, *SETTINGS, ".yarnrc.yml", ".yarn"):
        path = directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    (directory / "node_modules").mkdir(exist_ok=True)


def copy_source(source, target):
    """A writable copy of the source at its final place."""
    copy_tree(source, target, NOT_COPIED)


def link_packages(packages, directory):
    """A directory of links to installed packages: tools that keep caches beside them may write there."""
    modules = directory / "node_modules"
    modules.mkdir()
    for entry in packages.iterdir():
        (modules / entry.name).symlink_to(entry)


def link_for_running(environment, directory):
    """Replaces the links by one to the packages that stay."""
    shutil.rmtree(directory / "node_modules")
    (directory / "node_modules").symlink_to(environment / "node_modules")
