"""What Node builds say when they fail, what installers are given, and which program of a package runs."""

import json
import os
import subprocess
import sys
import tempfile
import types
import unittest
from pathlib import Path

from support import LAUNCHER

sys.path.insert(0, str(LAUNCHER))

from berth_build.tool import BuildFailure  # noqa: E402
from berth_node import installers, tree  # noqa: E402


class Causes(unittest.TestCase):
    def test_what_installers_print_becomes_a_code(self):
        for text, code, package in (
            ("npm error code E404\nnpm error 404  'fastmpc@1.0.0' is not in this registry.", "not_found", "fastmpc"),
            ("npm error code E404\nnpm error 404  '@a/b@*' is not in this registry.", "not_found", "@a/b"),
            ("npm error code ETARGET\nnpm error notarget No matching version found for left-pad@99.", "no_version", "left-pad"),
            ("npm error `npm ci` can only install packages when your package.json and package-lock.json are in sync.", "lock_outdated", None),
            (" ERR_PNPM_OUTDATED_LOCKFILE  Cannot install with \"frozen-lockfile\"", "lock_outdated", None),
            ("➤ YN0028: │ The lockfile would have been modified by this install, which is forbidden.", "lock_outdated", None),
            ("error Your lockfile needs to be updated, but yarn was run with `--frozen-lockfile`.", "lock_outdated", None),
            ("npm error code ERESOLVE", "no_solution", None),
            ("npm error code EINTEGRITY", "hash_mismatch", None),
            ("npm error code ENOTFOUND", "network", None),
            ("npm error gyp ERR! find Python", "build_failed", None),
            ("npm error nospc ENOSPC: no space left on device", "disk", None),
            ("npm warn EBADENGINE Unsupported engine\nsomething else", "unknown", None),
            ("npm error code EBADENGINE", "engine", None),
        ):
            self.assertEqual(installers.cause(text.splitlines()), (code, package), text)

    def test_the_errors_are_kept_and_the_noise_is_not(self):
        said = installers.meaningful(
            ["npm warn old", "", "src/a.ts(1,2): error TS2322: no", "npm error code 2", "npm error A complete log of this run"]
        )
        self.assertEqual(said, "src/a.ts(1,2): error TS2322: no\ncode 2")


class Declarations(unittest.TestCase):
    def setUp(self):
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_scripts_stay_with_the_code(self):
        source, target = self.directory / "source", self.directory / "target"
        source.mkdir()
        manifest = {"name": "x", "scripts": {"prepare": "tsc"}, "packageManager": "pnpm@9.0.0", "dependencies": {"a": "1"}}
        (source / "package.json").write_text("\ufeff" + json.dumps(manifest), encoding="utf-8")
        (source / ".npmrc").write_text("legacy-peer-deps=true\n")
        tree.write_declaration(source, target, "package-lock.json", "{}")
        self.assertEqual(json.loads((target / "package.json").read_text()), {"name": "x", "dependencies": {"a": "1"}})
        self.assertEqual(sorted(path.name for path in target.iterdir()), [".npmrc", "package-lock.json", "package.json"])
        tree.remove_declaration(target, "package-lock.json")
        self.assertEqual([path.name for path in target.iterdir()], ["node_modules"])


class BuildCommands(unittest.TestCase):
    def setUp(self):
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        plan, places = types.SimpleNamespace(installer="npm"), types.SimpleNamespace(cache=self.directory / "cache")
        self.installer = installers.Installer(plan, places)

    def program(self, name, text):
        path = self.directory / "node_modules/.bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def test_the_packages_programs_come_first_and_no_shell_reads_the_words(self):
        self.program("make", 'printf "%s" "$*" >made.txt')
        self.installer.command(["make", "a;b", "$HOME"], self.directory)
        self.assertEqual((self.directory / "made.txt").read_text(), "a;b $HOME")

    def test_a_command_that_is_not_there_or_fails_is_told_apart(self):
        self.program("fails", "echo broken; exit 3")
        for name, code, said in (("absent", "command_not_found", "absent"), ("fails", "command_failed", "broken")):
            with self.assertRaises(BuildFailure) as raised:
                self.installer.command([name], self.directory)
            self.assertEqual(raised.exception.code, code)
            self.assertIn(said, str(raised.exception))


class Programs(unittest.TestCase):
    def setUp(self):
        self.environment = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def run_package(self, *arguments):
        """Runs package.py; gives the exit code, what was printed and the `fail` line."""
        done = subprocess.run(
            [sys.executable, LAUNCHER / "package.py", *arguments],
            env={**os.environ, "BERTH_ENV_DIR": str(self.environment)},
            capture_output=True,
            text=True,
        )
        lines = [line[8:] for line in done.stdout.splitlines() if line.startswith("@@berth ")]
        return done.returncode, done.stdout, json.loads(lines[-1]) if lines else None

    def distribution(self, name, scripts):
        packages = self.environment / "lib/python3.11/site-packages"
        information = packages / f"{name.replace('-', '_')}-1.0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        text = "".join(f"{script} = a:main\n" for script in scripts)
        (information / "entry_points.txt").write_text(f"[console_scripts]\n{text}")
        (self.environment / "bin").mkdir(exist_ok=True)
        for script in scripts:
            program = self.environment / "bin" / script
            program.write_text(f'#!/bin/sh\necho {script} "$@"\n')
            program.chmod(0o755)

    def test_a_python_package_runs_its_program(self):
        self.distribution("my-server", ["my-server", "other"])
        self.assertEqual(self.run_package("pypi", "My_Server")[:2], (0, "my-server\n"))
        self.assertEqual(self.run_package("pypi", "my-server")[:2], (0, "my-server\n"))
        self.assertEqual(self.run_package("pypi", "my-server", "other", "a b", "--c")[:2], (0, "other a b --c\n"))

    def test_what_cannot_run_is_said(self):
        self.distribution("several", ["a", "b"])
        code, _, line = self.run_package("pypi", "several")
        self.assertEqual((code, line["step"]), (1, "entrypoint"))
        self.assertIn("a, b", line["message"])
        self.assertIn("has no program c", self.run_package("pypi", "several", "c")[2]["message"])
        self.assertIn("no program to run", self.run_package("pypi", "absent")[2]["message"])

    def test_a_node_package_without_a_program_is_a_library(self):
        directory = self.environment / "node_modules/@scope/tool"
        directory.mkdir(parents=True)
        for manifest in ("{}", '{"bin": {"x": "gone.js"}}', '{"bin": 5}'):
            (directory / "package.json").write_text(manifest)
            self.assertEqual(self.run_package("npm", "@scope/tool")[0], 1, manifest)
        (directory / "package.json").write_text("[")
        self.assertIn("cannot be read", self.run_package("npm", "@scope/tool")[2]["message"])
