"""The project's variables for builds. They come in a file, as those of instances do."""

import json
from pathlib import Path

# pip's names for what uv calls otherwise: used where uv's own are not set.
PIP_NAMES = {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL": "UV_INDEX"}


def load(environment):
    """Puts them into the environment, in front of the machine's own."""
    path = environment.pop("BERTH_VARIABLES_FILE", None)
    if not path:
        return
    variables = json.loads(Path(path).read_text(encoding="utf-8"))
    for theirs, ours in PIP_NAMES.items():
        if theirs in variables:
            variables.setdefault(ours, variables[theirs])
    if "UV_DEFAULT_INDEX" in variables or "UV_INDEX_URL" in variables:
        # uv reads two names for it, and the machine may have set the other one.
        for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
            environment.pop(name, None)
    environment.update(variables)
