"""Notes that stay: FastMCP with tools, resources and a prompt, and files in the project's storage."""

import os
import re
from pathlib import Path

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError

mcp = FastMCP("Notes", instructions="Keeps short notes. List them before you write one.")

# At Berth, /data is the project's own: it stays from one deployment to the next.
NOTES = Path(os.environ.get("NOTES_DIRECTORY", "/data/notes"))

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")


def path_of(name: str) -> Path:
    """The file of a note. Names are checked, so that none leads out of the directory."""
    if not NAME.fullmatch(name):
        raise ToolError("Name a note with small letters, digits and dashes, at most 60.")
    return NOTES / f"{name}.md"


@mcp.tool
def write_note(name: str, text: str) -> str:
    """Write a note, in place of the one of the same name."""
    path = path_of(name)
    NOTES.mkdir(parents=True, exist_ok=True)
    # Written beside it and moved, so that nobody reads half a note.
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    return f"Wrote {name}."


@mcp.tool
def read_note(name: str) -> str:
    """Read a note."""
    try:
        return path_of(name).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ToolError(f"There is no note {name}; see notes://all.") from error


@mcp.tool
def delete_note(name: str) -> str:
    """Delete a note."""
    path_of(name).unlink(missing_ok=True)
    return f"Deleted {name}."


@mcp.resource("notes://all")
def all_notes() -> str:
    """The names of all notes, one a line."""
    return "\n".join(sorted(path.stem for path in NOTES.glob("*.md"))) or "There are no notes yet."


@mcp.resource("notes://note/{name}")
def note(name: str) -> str:
    """One note."""
    return read_note(name)


@mcp.prompt
def summarize(name: str) -> str:
    """Ask for a summary of a note."""
    return f"Read the note {name} and summarize it in three sentences."


if __name__ == "__main__":
    mcp.run()
