"""From an exception to what a person needs: class, message, and the innermost line of their own code."""

import linecache
import os
import re
from pathlib import Path

# Messages of the usual configuration libraries for a variable that is not set; the group is its name.
MISSING_VARIABLE_MESSAGES = (
    # environs
    re.compile(r'^Environment variable "(\w+)" not set'),
    # python-decouple
    re.compile(r"^(\w+) not found\. Declare it as envvar or define a default value\."),
)


class LaunchFailure(Exception):
    """A failure that the launcher found itself; `step` is the phase and the message speaks to the project's owner."""

    def __init__(self, step, message, candidates=()):
        super().__init__(message)
        self.step = step
        self.candidates = list(candidates)


def describe(step, error, app_dir):
    """The fields of a `fail` line for `error`, raised in `step`."""
    fields = {
        "step": step,
        "exception": type(error).__name__,
        "message": str(error),
        "file": None,
        "line": None,
        "code": None,
        "candidates": [],
        "missing_variable": None,
        "missing_variables": [],
    }
    if isinstance(error, LaunchFailure):
        fields.update(step=error.step, exception=None, candidates=error.candidates)
        return fields
    error = innermost_of_group(error)
    missing = missing_variables(error)
    fields.update(exception=type(error).__name__, message=str(error), missing_variables=missing)
    fields["missing_variable"] = missing[0] if missing else None
    if isinstance(error, SystemExit):
        fields.update(_exit_fields(error))
    fields.update(_place(error, app_dir))
    return fields


def innermost_of_group(error):
    """Task groups wrap the one exception that matters; unwrap while there is only one."""
    while len(getattr(error, "exceptions", ())) == 1:
        error = error.exceptions[0]
    return error


def _exit_fields(error):
    if error.code is None or isinstance(error.code, int):
        code = error.code or 0
        return {"exit": int(code), "message": f"The code ended the process with exit code {int(code)}."}
    # sys.exit("text") prints the text and exits with 1.
    return {"exit": 1, "message": str(error.code)}


def _place(error, app_dir):
    """File, line and code of the innermost frame under the project's directory, for the error or what caused it."""
    for link in _chain(error):
        if isinstance(link, SyntaxError) and link.filename and _inside(link.filename, app_dir):
            return _location(link.filename, link.lineno, app_dir)
        found = None
        trace = link.__traceback__
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename
            if _inside(name, app_dir):
                found = _location(name, trace.tb_lineno, app_dir)
            trace = trace.tb_next
        if found:
            return found
    return {}


def _inside(name, app_dir):
    # Frozen modules and generated code have names like <frozen os>.
    return not name.startswith("<") and Path(os.path.abspath(name)).is_relative_to(app_dir)


def _location(name, line, app_dir):
    path = os.path.abspath(name)
    code = linecache.getline(path, line or 0).strip() or None
    return {"file": os.path.relpath(path, app_dir), "line": line, "code": code}


def _chain(error):
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def missing_variables(error):
    """Names of environment variables whose absence caused `error`; empty when that is not the cause."""
    for link in _chain(error):
        if isinstance(link, KeyError) and link.args and _raised_by_environ(link):
            return [str(link.args[0])]
        for pattern in MISSING_VARIABLE_MESSAGES:
            if match := pattern.match(str(link)):
                return [match.group(1)]
        if names := _missing_settings(link):
            return names
    return []


def _raised_by_environ(error):
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    frame = trace.tb_frame if trace else None
    return bool(frame) and frame.f_code.co_name == "__getitem__" and frame.f_globals.get("__name__") == "os"


def _missing_settings(error):
    """pydantic-settings says "Field required"; the variable is the field's alias, or the prefix and its name."""
    settings_class, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith("pydantic_settings"):
            settings_class = settings_class or type(trace.tb_frame.f_locals.get("__pydantic_self__"))
        trace = trace.tb_next
    fields = getattr(settings_class, "model_fields", None)
    if fields is None or not callable(getattr(error, "errors", None)):
        return []
    prefix = settings_class.model_config.get("env_prefix", "")
    names = [str(item["loc"][0]) for item in error.errors() if item.get("type") == "missing" and item.get("loc")]
    return [(prefix + name if name in fields else name).upper() for name in names]
