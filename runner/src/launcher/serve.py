"""Starts a project's MCP server inside its instance and reports each phase.

Two steps, so that an instance can be prepared before its code is there: `prepare` brings the environment's heavy
packages in, `load` the project's code.

Run as `/env/bin/python /berth/serve.py`, behind the guard: a Python that starts with a project's packages may run code
of them. Environment: BERTH_ENTRYPOINT, BERTH_APP_DIR (/app), PORT (8080),
BERTH_VARIABLES_FILE (a JSON object of the project's variables), BERTH_FASTMCP_JSON (whose `deployment` applies) and
BERTH_START_COMMAND (a JSON array: what is run in this process's place instead of an entrypoint).
Ends with 0 after SIGTERM and with 1 after a `fail` line.
"""

import os
import signal
import sys
import traceback

# Programs and source are mounted read-only; writing bytecode would only fail.
sys.dont_write_bytecode = True

from berth_launcher.report import emit  # noqa: E402

STOPPED_BY_SIGTERM = 128 + signal.SIGTERM


def main():
    """Prepares, loads, serves; every failure ends in one `fail` line."""
    # From here on `import x` means the environment's or the project's x, never a file beside this one.
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, write_through=True, errors="backslashreplace")
    # Nobody types here; code that reads standard input finds its end at once.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(STOPPED_BY_SIGTERM))

    from berth_launcher import failure, launch, settings

    app_dir, progress = "/", launch.Progress()
    try:
        chosen = settings.load()
        app_dir = chosen.app_dir
        os.chdir(chosen.working_dir)
        if chosen.command:
            progress.step = "serve"
            launch.replace(chosen)
        launch.prepare()
        launch.run(chosen, progress)
    except BaseException as error:
        launch.restore_streams()
        end_failed(failure.describe(progress.step, error, app_dir), error)


def end_failed(fields, error):
    """Traceback for the log, fields for the runner, and an end that no thread of the project can hold up."""
    if fields["exception"] is not None:
        traceback.print_exception(type(error), error, error.__traceback__)
    else:
        print(fields["message"], file=sys.stderr)
    sys.stderr.flush()
    emit("fail", **fields)
    os._exit(1)


if __name__ == "__main__":
    main()
