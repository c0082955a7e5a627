"""System packages and commands, as far as they need no container."""

import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path

from support import LAUNCHER, Project

sys.path.insert(0, str(LAUNCHER))
sys.dont_write_bytecode = True

from berth_build import apt, layer  # noqa: E402
from berth_build.tool import BuildFailure  # noqa: E402
from berth_launcher import command  # noqa: E402


class Layers(unittest.TestCase):
    def test_files_go_where_the_image_has_them(self):
        for name, expected in [
            ("./usr/bin/jq", "usr/bin/jq"),
            ("./bin/sh", "usr/bin/sh"),
            ("./lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6"),
            ("./etc/magic", "etc/magic"),
            ("./", None),
            ("./lib", None),
            ("./usr/share/doc/jq/copyright", None),
            ("./usr/share/documents/x", "usr/share/documents/x"),
            ("./usr/../etc/passwd", None),
            ("/etc/../../x", None),
            ("./app/main.py", None),
            ("./berth/serve.py", None),
            ("./env/bin/python", None),
            ("./proc/x", None),
        ]:
            self.assertEqual(layer.placed(name), expected, name)

    def test_a_package_is_packed_without_what_it_may_not_have(self):
        with tempfile.TemporaryDirectory() as directory:
            directory = Path(directory)
            for name in ("DEBIAN", "bin", "usr/share/doc/x"):
                (directory / "tree" / name).mkdir(parents=True)
            (directory / "tree/DEBIAN/control").write_text(
                "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n"
            )
            (directory / "tree/DEBIAN/postinst").write_text("#!/bin/sh\nexit 1\n")
            (directory / "tree/DEBIAN/postinst").chmod(0o755)
            program = directory / "tree/bin/x"
            program.write_text("#!/bin/sh\n")
            program.chmod(0o4755)
            (directory / "tree/bin/y").symlink_to("x")
            (directory / "tree/bin/z").hardlink_to(program)
            (directory / "tree/usr/share/doc/x/copyright").write_text("x")
            archive = directory / "x.deb"
            subprocess.run(["dpkg-deb", "--build", "--root-owner-group", directory / "tree", archive], check=True, stdout=subprocess.DEVNULL)
            layer.write([archive], directory)
            with tarfile.open(directory / "layer.tar") as packed:
                members = {member.name: member for member in packed}
            self.assertEqual(sorted(name for name, it in members.items() if not it.isdir()), ["usr/bin/x", "usr/bin/y", "usr/bin/z"])
            modes = {member.mode for member in members.values() if member.isreg()}
            self.assertEqual(modes, {0o755})
            links = [member for member in members.values() if member.islnk()]
            self.assertEqual([member.linkname.startswith("usr/bin/") for member in links], [True])
            self.assertEqual({(member.uid, member.gid) for member in members.values()}, {(0, 0)})


class Apt(unittest.TestCase):
    def test_causes_are_told_apart(self):
        for output, code, package in [
            ("E: Version '1' for 'jq' was not found\n", "system_not_found", "jq"),
            ("E: Unable to locate package x\n", "system_not_found", None),
            ("E: Failed to fetch http://x  Could not connect\n", "system_network", None),
            ("E: You don't have enough free space; No space left on device\n", "disk", None),
            ("E: Unable to correct problems, you have held broken packages.\n", "system_failed", None),
        ]:
            found = apt._cause(output)
            self.assertEqual((found[0], found[2]), (code, package), output)

    def test_sizes_are_bounded(self):
        apt._check_sizes("Need to get 796 kB/1,024 MB of archives.\nAfter this operation, 9,733 kB of additional disk space will be used.\n")
        for summary in ("Need to get 1,200 MB of archives.\n", "After this operation, 4.5 GB of additional disk space will be used.\n"):
            with self.assertRaises(BuildFailure) as raised:
                apt._check_sizes(summary)
            self.assertEqual(raised.exception.code, "system_too_large")


class Commands(Project):
    def test_only_the_given_names_are_replaced(self):
        words = ["--port=$PORT", "${PORT}1", "$PORTS", "$(id)", "$HOME", "a b"]
        self.assertEqual(command.expand(words, {"PORT": "80"}), ["--port=80", "801", "$PORTS", "$(id)", "$HOME", "a b"])
        self.assertEqual(command.expand(words, {}), words)

    def test_programs_are_found_in_the_source_by_path_only(self):
        self.write_file("run", "#!/bin/sh\n")
        (self.app / "run").chmod(0o755)
        environment = command.environment({"PATH": "/usr/bin:/bin"})
        self.assertIsNone(command.find("run", environment, self.app))
        self.assertEqual(command.find("./run", environment, self.app), f"{self.app}/./run")
        self.assertIsNone(command.find("./gone", environment, self.app))
        self.assertIsNotNone(command.find("env", environment, self.app))


if __name__ == "__main__":
    unittest.main()
