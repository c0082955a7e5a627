"""The first process of a container: what it passes on, and what it leaves out."""

import json
import os
import signal
import subprocess
import sys
import time
import unittest

from support import LAUNCHER

GUARD = LAUNCHER / "berth_launcher/guard.py"


def guarded(program):
    return subprocess.Popen(
        [sys.executable, GUARD, sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


class Guards(unittest.TestCase):
    def run_guarded(self, program):
        process = guarded(program)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    def test_output_and_exit_status_pass(self):
        code, output, errors = self.run_guarded(
            "import sys; print('one'); print('two', file=sys.stderr); sys.stdout.write('no end'); sys.exit(3)"
        )
        self.assertEqual((code, output, errors), (3, b"one\nno end", b"two\n"))

    def test_an_end_by_a_signal_is_told_as_shells_do(self):
        code, _, _ = self.run_guarded("import os; os.kill(os.getpid(), 9)")
        self.assertEqual(code, 137)

    def test_a_program_that_is_not_there(self):
        process = subprocess.run([sys.executable, GUARD, "/nowhere"], capture_output=True, timeout=60)
        self.assertEqual(process.returncode, 127)
        self.assertIn(b"cannot be started", process.stderr)

    def test_signals_are_forwarded(self):
        process = guarded(
            "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); print('up', flush=True); signal.pause()"
        )
        self.assertEqual(process.stdout.readline(), b"up\n")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=60), 5)
        process.communicate()

    def test_r53_a_flood_is_cut_counted_and_never_held_up(self):
        began = time.monotonic()
        code, output, _ = self.run_guarded("for n in range(400_000): print(n)")
        lines = output.decode().splitlines()
        self.assertEqual(code, 0)
        self.assertLess(len(lines), 3_000 + 1_000 * (time.monotonic() - began + 1))
        self.assertEqual(lines[:3], ["0", "1", "2"])
        told = [json.loads(line.removeprefix("@@berth ")) for line in lines if line.startswith("@@berth ")]
        self.assertTrue(told and lines[-1].startswith("@@berth "))
        dropped = sum(event["lines"] for event in told if event["phase"] == "left_out")
        kept = len(lines) - len(told)
        self.assertEqual(kept + dropped, 400_000)

    def test_r53_bytes_are_limited_too(self):
        began = time.monotonic()
        _, output, _ = self.run_guarded("for _ in range(20_000): print('x' * 8000)")
        self.assertLess(len(output), (3 + time.monotonic() - began + 1) * 1024 * 1024)

    def test_r53_an_endless_line_is_cut(self):
        _, output, _ = self.run_guarded(
            "import sys\nfor _ in range(1000): sys.stdout.write('y' * 10_000)\nprint()\nprint('after')"
        )
        lines = output.decode().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertTrue(lines[0].endswith("y … (line cut)"))
        self.assertLessEqual(len(lines[0].encode()) + 1, 16 * 1024)
        self.assertEqual(lines[1], "after")

    def test_lines_for_the_runner_pass_a_flood(self):
        _, output, _ = self.run_guarded(
            "for n in range(100_000): print(n)\nprint('@@berth {\"phase\":\"serve\"}')\nfor n in range(100_000): print(n)"
        )
        self.assertIn(b'\n@@berth {"phase":"serve"}\n', output)

    def test_r53_the_guard_is_out_of_the_programs_reach(self):
        code, output, _ = self.run_guarded(
            "import os\n"
            "try:\n"
            "    os.open(f'/proc/{os.getppid()}/fd/1', os.O_WRONLY)\n"
            "except PermissionError:\n"
            "    print('refused')\n"
        )
        if os.geteuid() == 0:
            # Root may; containers have none. The engine's test looks from inside one.
            self.assertEqual(code, 0)
        else:
            self.assertEqual(output, b"refused\n")

    def test_orphans_are_collected(self):
        code, output, _ = self.run_guarded(
            "import os, sys\n"
            "if os.fork() == 0:\n"
            "    os.setsid()\n"
            "    os._exit(0)\n"
            "os.wait()\n"
            "print('done')\n"
        )
        self.assertEqual((code, output), (0, b"done\n"))


if __name__ == "__main__":
    unittest.main()
