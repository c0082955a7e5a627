"""The build program with the real uv and the real package index, outside a container."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from support import LAUNCHER, Project, uv

# The program finds the interpreter where runtime images have it.
PYTHON = "/usr/bin/python3"
BUILD_SECONDS = 300


class Build(Project):
    @classmethod
    def setUpClass(cls):
        cls.cache = Path(tempfile.mkdtemp(prefix="berth-cache-"))
        cls.addClassCleanup(shutil.rmtree, cls.cache, ignore_errors=True)
        cls.version = subprocess.check_output(
            [PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True
        ).strip()

    def setUp(self):
        super().setUp()
        self.work = Path(tempfile.mkdtemp(prefix="berth-build-"))
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)
        self.environment = self.work / "env"

    def run_build(self, kind, path=None, packages=(), python=None, lock=None, known=(), **variables):
        """One build in a new environment directory; returns its lines."""
        shutil.rmtree(self.environment, ignore_errors=True)
        (self.work / "out").mkdir(exist_ok=True)
        self.environment.mkdir()
        plan = {
            "python": python or self.version,
            "source": {"kind": kind, "path": path, "packages": list(packages)},
            "lock": lock,
            "known": list(known),
        }
        (self.work / "plan.json").write_text(json.dumps(plan))
        places = {
            "BERTH_PLAN": self.work / "plan.json",
            "BERTH_APP_DIR": self.app,
            "BERTH_ENV_DIR": self.environment,
            "BERTH_CACHE_DIR": self.cache,
            "BERTH_OUT_DIR": self.work / "out",
            "BERTH_UV": uv(),
        }
        done = subprocess.run(
            [PYTHON, LAUNCHER / "environment.py"],
            env={**os.environ, **{name: str(value) for name, value in places.items()}, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_SECONDS,
        )
        self.log = done.stdout
        lines = [json.loads(line[8:]) for line in self.log.splitlines() if line.startswith("@@berth ")]
        self.assertEqual(done.returncode, 1 if lines[-1]["phase"] == "fail" else 0, self.log)
        return lines

    def built(self, *arguments, **options):
        lines = self.run_build(*arguments, **options)
        self.assertEqual([line["phase"] for line in lines], ["resolve", "install", "compile", "done"], self.log)
        return lines

    def failed(self, code, *arguments, **options):
        line = self.run_build(*arguments, **options)[-1]
        self.assertEqual((line["phase"], line.get("code")), ("fail", code), self.log)
        return line

    @property
    def lock(self):
        return (self.work / "out/lock.txt").read_text()

    def imports(self, code):
        """Runs code in the built environment, whose directories may not be written."""
        subprocess.run(["chmod", "-R", "a-w", self.environment], check=True)
        self.addCleanup(subprocess.run, ["chmod", "-R", "u+w", self.environment], check=False)
        answer = subprocess.check_output([self.environment / "bin/python", "-I", "-c", code], text=True)
        subprocess.run(["chmod", "-R", "u+w", self.environment], check=True)
        return answer.strip()


class Succeeds(Build):
    def test_hashes_of_the_project_are_kept(self):
        wheel = "946d195a0d259cbba61165e88e65941f16e9b36ea6ddb97f00452bae8b1287d3"
        self.write_file("requirements.txt", f"idna==3.10 --hash=sha256:{wheel}\nsniffio==1.3.1 # --hash=sha256:0\n")
        self.built("requirements", "requirements.txt")
        self.assertEqual(self.lock.count("--hash=sha256:"), 3, self.lock)
        self.assertIn(f"idna==3.10 \\\n    --hash=sha256:{wheel}\nsniffio==1.3.1", self.lock)

    def test_requirements_are_locked_installed_and_compiled(self):
        self.write_file("base.txt", "idna==3.10\n")
        self.write_file("requirements.txt", "-r base.txt\nanyio>=4\n")
        resolve, _, compiled, done = self.built("requirements", "requirements.txt")
        self.assertIn("idna==3.10", self.lock)
        self.assertIn("--hash=sha256:", self.lock)
        self.assertEqual(resolve["sha256"], hashlib.sha256(self.lock.encode()).hexdigest())
        self.assertEqual((done["sha256"], done["reused"]), (resolve["sha256"], False))
        self.assertGreater(compiled["files"], 20)
        # Loaded from bytecode that no time stamp can make stale (PEP 552: flags 1, unchecked hash).
        cached = self.imports("import anyio; print(anyio.__cached__)")
        self.assertEqual(Path(cached).read_bytes()[4:8], (1).to_bytes(4, "little"))

    def test_same_declaration_gives_the_same_lock_and_reuses_bytecode(self):
        first = self.built("none", packages=["idna==3.10", "anyio"])[-1]["sha256"]
        again = self.built("none", packages=["idna==3.10", "anyio"])
        self.assertEqual(again[-1]["sha256"], first)
        self.assertEqual(again[2]["reused"], again[2]["files"])
        self.assertEqual(self.imports("import idna; print(idna.__version__)"), "3.10")
        [only, done] = self.run_build("none", packages=["idna==3.10", "anyio"], known=[first])
        self.assertEqual((only["phase"], done["phase"], done["reused"]), ("resolve", "done", True))
        self.assertEqual(list(self.environment.iterdir()), [])

    def test_given_lock_is_installed_as_it_is(self):
        self.built("none", packages=["idna==3.10"])
        lines = self.built("none", packages=["something-else"], lock=self.lock)
        self.assertTrue(lines[0]["skipped"])
        self.assertEqual(self.imports("import idna; print(idna.__version__)"), "3.10")

    def test_nothing_declared(self):
        self.assertEqual(self.built("none")[0]["packages"], 0)

    def test_pyproject_knows_its_own_version(self):
        self.write_file("pyproject.toml", '[project]\nname = "my-server"\nversion = "1.2.3"\ndependencies = ["idna==3.10"]\n')
        self.built("pyproject", "pyproject.toml")
        self.assertEqual(self.imports("from importlib.metadata import version; print(version('my-server'))"), "1.2.3")

    def test_dynamic_dependencies_are_asked_of_the_build_backend(self):
        self.write_file("pyproject.toml", """
            [build-system]
            requires = ["setuptools"]
            build-backend = "setuptools.build_meta"
            [project]
            name = "dynamic"
            version = "1"
            dynamic = ["dependencies"]
            [tool.setuptools]
            py-modules = []
            dynamic.dependencies = {file = "deps.txt"}
        """)
        self.write_file("deps.txt", "idna==3.10\n")
        self.app.chmod(0o555)
        self.addCleanup(self.app.chmod, 0o755)
        self.built("pyproject", "pyproject.toml")
        self.assertIn("idna==3.10", self.lock)

    def test_uv_lock(self):
        self.write_file("pyproject.toml", '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["idna==3.10"]\n')
        subprocess.run([uv(), "lock", "--quiet", "--project", self.app], check=True)
        self.built("uv-lock", "pyproject.toml")
        self.assertIn("idna==3.10", self.lock)

    def test_packages_of_the_project_itself(self):
        self.write_file("pyproject.toml", '[project]\nname = "x"\nversion = "1"\ndependencies = ["idna==3.10"]\n')
        self.write_file("lib/pyproject.toml", '[project]\nname = "libx"\nversion = "1"\n[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n')
        self.write_file("lib/libx/__init__.py", "VALUE = 1\n")
        self.write_file("requirements.txt", "-e .\n./lib\n")
        self.built("requirements", "requirements.txt")
        first = self.lock
        self.assertEqual(self.imports("import idna, libx; print(libx.VALUE)"), "1")
        # Its content is part of the lock, so that a change makes another environment.
        self.write_file("lib/libx/__init__.py", "VALUE = 2\n")
        self.built("requirements", "requirements.txt")
        self.assertNotEqual(self.lock, first)
        self.assertEqual(self.imports("import libx; print(libx.VALUE)"), "2")

    def test_declaration_in_a_directory(self):
        self.write_file("service/requirements.txt", "idna==3.10\n../lib\n")
        self.write_file("lib/pyproject.toml", '[project]\nname = "libx"\nversion = "1"\n')
        self.write_file("lib/libx/__init__.py", "VALUE = 3\n")
        self.built("requirements", "service/requirements.txt")
        self.assertEqual(self.imports("import idna, libx; print(libx.VALUE)"), "3")


    def test_poetrys_dependencies_come_as_packages(self):
        self.write_file("pyproject.toml", "[tool.poetry]\nname = 'x'\n[tool.poetry.dependencies]\nidna = '~3.10'\n")
        self.built("poetry", "pyproject.toml", packages=["idna>=3.10,<3.11"])
        self.assertEqual(self.imports("import idna; print(idna.__version__)"), "3.10")

    def test_a_member_of_a_workspace_is_installed_by_its_lock(self):
        self.write_file("pyproject.toml", """
            [project]
            name = "all"
            version = "1"
            requires-python = ">=3.10"
            [tool.uv.workspace]
            members = ["services/*", "libs/*"]
        """)
        self.write_file("services/web/pyproject.toml", """
            [project]
            name = "web"
            version = "1"
            requires-python = ">=3.10"
            dependencies = ["idna==3.10", "libx"]
            [tool.uv.sources]
            libx = {workspace = true}
        """)
        self.write_file("libs/x/pyproject.toml", """
            [project]
            name = "libx"
            version = "1"
            requires-python = ">=3.10"
            [build-system]
            requires = ["hatchling"]
            build-backend = "hatchling.build"
            [tool.hatch.build.targets.wheel]
            packages = ["libx"]
        """)
        self.write_file("libs/x/libx/__init__.py", "VALUE = 4\n")
        subprocess.run([uv(), "lock", "--quiet", "--project", self.app], check=True)
        self.built("uv-lock", "services/web/pyproject.toml")
        self.assertIn("idna==3.10", self.lock)
        self.assertEqual(self.imports("import idna, libx; print(libx.VALUE)"), "4")

    def test_variables_of_builds_come_before_the_machines_own(self):
        variables = self.work / "variables.json"
        variables.write_text(json.dumps({"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "UV_HTTP_RETRIES": "0"}))
        self.failed("network", "none", packages=["not-cached-either"], BERTH_VARIABLES_FILE=str(variables))
        self.assertIn("127.0.0.1:1", self.log)


class Fails(Build):
    def test_conflict(self):
        line = self.failed("no_solution", "none", packages=["fastmcp==4.1.2", "mcp<2"])
        self.assertEqual(line["step"], "resolve")
        self.assertIn("fastmcp==4.1.2 depends on", line["message"])

    def test_unknown_package(self):
        line = self.failed("not_found", "none", packages=["this-package-does-not-exist-zz9"])
        self.assertEqual(line["package"], "this-package-does-not-exist-zz9")

    def test_unknown_version(self):
        self.assertEqual(self.failed("no_solution", "none", packages=["idna==99.1"])["package"], "idna")

    def test_unreadable_requirement(self):
        self.write_file("requirements.txt", "htt px ==\n")
        self.failed("invalid_requirement", "requirements", "requirements.txt")
        self.write_file("pyproject.toml", "[project\n")
        self.failed("invalid_requirement", "pyproject", "pyproject.toml")

    def test_missing_files(self):
        self.failed("missing_file", "requirements", "requirements.txt")
        self.failed("missing_file", "requirements", "../../etc/passwd")
        self.write_file("requirements.txt", "-r other.txt\n")
        self.failed("missing_file", "requirements", "requirements.txt")

    def test_other_python(self):
        self.failed("python_version", "none", python="3.99")
        self.write_file("pyproject.toml", '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.99"\n')
        line = self.failed("python_version", "pyproject", "pyproject.toml")
        self.assertIn("requires Python >=3.99", line["message"])

    def test_outdated_lock(self):
        project = '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = [%s]\n'
        self.write_file("pyproject.toml", project % '"idna"')
        self.failed("lock_outdated", "uv-lock", "pyproject.toml")
        subprocess.run([uv(), "lock", "--quiet", "--project", self.app], check=True)
        self.write_file("pyproject.toml", project % '"idna", "anyio"')
        self.failed("lock_outdated", "uv-lock", "pyproject.toml")

    def test_unreachable_index(self):
        variables = {"UV_DEFAULT_INDEX": "http://127.0.0.1:1/simple", "UV_HTTP_RETRIES": "0"}
        self.failed("network", "none", packages=["not-cached-here"], **variables)

    def test_wrong_hash(self):
        line = self.failed("hash_mismatch", "none", lock="idna==3.10 --hash=sha256:" + "0" * 64 + "\n")
        self.assertEqual((line["step"], line["package"]), ("install", "idna"))

    def test_wrong_hash_in_requirements(self):
        self.write_file("pins.txt", "IDNA==3.10 \\\n    --hash=sha256:" + "0" * 64 + "\n")
        self.write_file("requirements.txt", "-r pins.txt\nsniffio\n")
        line = self.failed("hash_mismatch", "requirements", "requirements.txt")
        self.assertEqual((line["step"], line["package"]), ("install", "idna"))

    def test_package_that_does_not_build(self):
        self.write_file("lib/setup.py", "raise RuntimeError('no compiler here')\n")
        self.write_file("requirements.txt", "./lib\n")
        line = self.failed("build_failed", "requirements", "requirements.txt")
        self.assertIn("no compiler here", line["message"])

    def test_broken_plan(self):
        self.failed("unknown", "conda")


if __name__ == "__main__":
    unittest.main()
