"""The program that installs shared wheels, with the real uv and the real package index, outside a container."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

from support import LAUNCHER, uv

sys.path.insert(0, str(LAUNCHER))

from berth_build import bytecode, shared  # noqa: E402

PYTHON = "/usr/bin/python3"
JOB_SECONDS = 300

IDNA = "idna==3.10 --hash=sha256:946d195a0d259cbba61165e88e65941f16e9b36ea6ddb97f00452bae8b1287d3\n"
SIX = "six==1.16.0 --hash=sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254\n"
WRONG = SIX.replace("8abb", "0000")
# Has no wheel.
SDIST = "docopt==0.6.2 --hash=sha256:49b3a825280bd66b3aa83585ef59c4a8c82f2c8a522dbe754a8bc8d08c85c491\n"


def make_wheel(directory, name, files):
    """Writes a wheel; returns its line in a lock."""
    info = f"{name}-1.0.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{info}/RECORD"
    files[record] = "".join(f"{path},,\n" for path in [*files, record])
    wheel = directory / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def hostile_wheel(directory, marker):
    """A wheel that runs code wherever a Python with it starts."""
    leave = f"open({str(marker)!r}, 'a').write('ran')"
    files = {
        "hostile.pth": f"import hostile; {leave}\n",
        "hostile.py": "",
        "sitecustomize.py": f"{leave}\n",
        "hostile-1.0.data/data/pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = true\n",
    }
    return make_wheel(directory, "hostile", files)


class Locks(unittest.TestCase):
    def test_only_plain_requirements_are_shared(self):
        digest = "0" * 64
        lock = (
            f"# berth:project demo 1.0\n# berth:local ./packages/part abc\nidna==3.10 \\\n    --hash=sha256:{digest}\n"
            f"Six==1.16.0 ; python_version < '3.13' --hash=sha256:{digest} --hash=sha256:{digest}\n"
            f"private @ https://user:token@packages.example/private.whl --hash=sha256:{digest}\n"
            f"bare==1\n--index-url https://packages.example/simple\n-r other.txt\n"
            f"odd==1 ; --index-url=https://packages.example --hash=sha256:{digest}\n"
        )
        requirements, left = shared.split(lock)
        self.assertEqual([requirement.name for requirement in requirements], ["idna", "six"])
        self.assertIn("python_version < '3.13' --hash=", requirements[1].line)
        self.assertEqual(left, ["private", "bare", "--index-url", "-r", "odd", "./packages/part"])

    def test_a_projects_name_does_not_lead_out_of_its_environment(self):
        lock = "# berth:project demo 1.0\n# berth:project demo ../../cache\n# berth:project ../x 1\n"
        self.assertEqual(shared.projects(lock), [["demo", "1.0"]])

    def test_what_uv_blames(self):
        for text, package in [
            ("hint: Wheels are required for `docopt` because building from source is disabled", "docopt"),
            ("error: Failed to download `Six==1.16.0`\n  cause: Hash mismatch for `Six==1.16.0`", "six"),
            ("Because no-such-package was not found in the package registry", "no-such-package"),
            ("Because there is no version of six==99.1 and you require it", "six"),
            ("Because a.b==1 has no wheels with a matching Python ABI tag", "a-b"),
            ("error sending request", None),
        ]:
            self.assertEqual(shared.named(text), package, text)


class Jobs(unittest.TestCase):
    def setUp(self):
        self.store = Path(tempfile.mkdtemp(prefix="berth-wheels-"))
        self.addCleanup(shutil.rmtree, self.store, ignore_errors=True)
        self.version = subprocess.check_output(
            [PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True
        ).strip()

    def run_job(self, name, lock, word="go\n", **more):
        """One job; returns its lines and its environment."""
        job = self.store / "jobs" / name
        environment = job / "env"
        environment.mkdir(parents=True)
        (job / "plan.json").write_text(json.dumps({"python": self.version, "environment": f"jobs/{name}/env"}))
        (job / "lock.txt").write_text(lock)
        (job / "gate").write_text(word)
        places = {"JOB": job, "STORE": self.store, "ENVIRONMENT": environment}
        variables = {f"BERTH_{place}_DIR": str(path) for place, path in places.items()}
        done = subprocess.run(
            [PYTHON, LAUNCHER / "wheels.py"],
            env={**os.environ, **variables, "BERTH_UV": uv(), **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=JOB_SECONDS,
        )
        self.assertEqual(done.returncode, 0, done.stdout)
        self.log = done.stdout
        lines = [json.loads(line[8:]) for line in self.log.splitlines() if line.startswith("@@berth ")]
        return lines, environment

    def site(self, environment):
        [site] = environment.glob("lib/python3*/site-packages")
        return site

    def test_what_was_fetched_and_compiled_once_is_linked(self):
        lines, first = self.run_job("first", "# berth:project demo 1.0\n" + IDNA)
        self.assertEqual([line["phase"] for line in lines], ["install", "compile", "done"], self.log)
        self.assertEqual(lines[-1]["left"], 0)
        self.assertGreater(lines[1]["files"], 5)
        lines, second = self.run_job("second", IDNA)
        self.assertIn("1 were on this machine, 0 were downloaded.", self.log)
        self.assertEqual(lines[1]["files"], 0)
        for name in ("core.py", "core.pyi", f"__pycache__/core.{sys.implementation.cache_tag}.pyc"):
            path = Path("idna", name)
            if (self.site(first) / path).exists():
                self.assertTrue((self.site(first) / path).samefile(self.site(second) / path), name)
        self.assertTrue((self.site(first) / "demo-1.0.dist-info/METADATA").exists())
        written = [path for path in second.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
        self.assertEqual(written, [])
        # One package more is the only one that is fetched.
        self.run_job("third", IDNA + SIX)
        self.assertIn("1 were on this machine, 1 were downloaded.", self.log)

    def test_what_has_no_such_wheel_is_left(self):
        lines, environment = self.run_job("left", IDNA + WRONG + SDIST)
        self.assertEqual(lines[-1]["left"], 2, self.log)
        self.assertTrue((self.site(environment) / "idna").exists())
        self.assertFalse((self.site(environment) / "six.py").exists())

    def test_wheels_that_were_cleaned_away_come_again(self):
        self.run_job("before", SIX)
        for bucket in (self.store / "cache").glob("archive-v*"):
            shutil.rmtree(bucket)
        lines, environment = self.run_job("after", SIX)
        self.assertEqual((lines[-1]["left"], (self.site(environment) / "six.py").exists()), (0, True), self.log)

    def test_no_code_of_a_wheel_is_run(self):
        published, marker = self.store / "published", self.store / "marker"
        published.mkdir()
        hostile = hostile_wheel(published, marker)
        # Every environment is at one path. So where jobs run at once, uv knows nothing of this one's Python from its
        # last call.
        forgetful = self.store / "uv"
        forgetful.write_text(f'#!/bin/sh\nrm -rf "$UV_CACHE_DIR"/interpreter-v*\nexec {uv()} "$@"\n')
        forgetful.chmod(0o755)
        variables = {"BERTH_UV": str(forgetful), "UV_FIND_LINKS": str(published)}
        self.run_job("before", IDNA)
        # The wheel is fetched, and uv goes on with what was here: first as it is new, then as it is known.
        for name, lock in [("new", hostile + IDNA + WRONG), ("known", hostile + IDNA + SIX)]:
            lines, environment = self.run_job(name, lock, **variables)
            self.assertTrue((self.site(environment) / "hostile.pth").exists(), self.log)
            self.assertTrue((self.site(environment) / "idna").exists(), self.log)
            self.assertFalse(marker.exists(), f"{name}: code of a wheel ran in the job\n{self.log}")
            self.assertEqual(list(environment.glob(".wheels")), [])
        # In its own environment it does run, and what it has replaced what was there.
        subprocess.run([environment / "bin/python", "-c", "pass"])
        self.assertIn("ran", marker.read_text())
        self.assertIn("system-site-packages = true", (environment / "pyvenv.cfg").read_text())

    def test_bytecode_is_that_of_its_source(self):
        published = self.store / "published"
        published.mkdir()
        others = {f"other{number}.py": "" for number in range(bytecode.FILES_PER_TASK)}
        # Slow to compile, so that it would be done last.
        slow = "ORIGIN = 'planted'\n" + "x = [1]\n" * 60_000
        lock = make_wheel(published, "victim", {**others, "py.py": "ORIGIN = 'victim'\n"})
        planted = make_wheel(published, "planted", {".py": slow})
        self.run_job("first", lock + planted, UV_FIND_LINKS=str(published))
        lines, environment = self.run_job("second", lock, UV_FIND_LINKS=str(published))
        self.assertEqual((lines[-1]["left"], lines[1]["files"]), (0, 0), self.log)
        said = subprocess.check_output([environment / "bin/python", "-c", "import py; print(py.ORIGIN)"], text=True)
        self.assertEqual(said, "victim\n")

    def test_called_off(self):
        [done], environment = self.run_job("called-off", "", word="no\n")
        self.assertEqual(done["phase"], "done")
        self.assertFalse((self.site(environment) / "idna").exists())


if __name__ == "__main__":
    unittest.main()
