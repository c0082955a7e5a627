//! What the project's own code does while it is imported.

use super::FASTMCP_4;
use crate::diagnose::code::Code;
use crate::diagnose::entry::{Change, Entry, Exception, Match, Phase, raised};

/// An entry of the phase.
const fn own(
    code: Code,
    title: &'static str,
    matches: &'static [Match],
    cause: &'static str,
    fix: &'static str,
) -> Entry {
    Entry {
        code,
        phase: Phase::Import,
        title,
        matches,
        cause,
        fix,
        change: Change::None,
        verified: &[FASTMCP_4],
        rows: &[],
    }
}

pub const ENTRIES: &[Entry] = &[
    Entry {
        rows: &["X4", "E23"],
        ..own(
            Code::MissingVariable,
            "A required variable is not set",
            &[
                Match::Found(
                    "The launcher sees which variable was read: from os.environ, pydantic-settings, environs and decouple.",
                ),
                raised(
                    &["ValueError"],
                    &["is required - set via parameter or {names}"],
                ),
            ],
            "The code needs the {variables} {names}, which {are} not set.",
            "Set {names} on the project's page or with `berth env PROJECT set {settings}`, and deploy again.",
        )
    },
    Entry {
        rows: &["X7"],
        ..own(
            Code::ImportExited,
            "The code ended the process while it was imported",
            &[Match::Found("The launcher catches SystemExit.")],
            "The code ended the process while it was imported, {said}.",
            "Move what runs or exits into `if __name__ == \"__main__\":`, or correct what made it exit.",
        )
    },
    Entry {
        change: Change::PathInSource,
        rows: &["X9"],
        ..own(
            Code::FileMissing,
            "The code opens a file that is not there",
            &[raised(
                &["FileNotFoundError"],
                &["No such file or directory: '{path}'"],
            )],
            "The code opens {path}, which does not exist; paths begin at the root of the source.",
            "Push the file and write its path from the root of the source, or keep data in /data.",
        )
    },
    Entry {
        change: Change::PathInData,
        // Only a container is read-only: a fixture that is deployed provokes it.
        verified: &[],
        rows: &["X12"],
        ..own(
            Code::PathNotWritable,
            "The code writes where it may not",
            &[
                raised(&["PermissionError"], &["Permission denied: '{path}'"]),
                Match::Exception(Exception {
                    classes: &["OSError"],
                    texts: &["Read-only file system: '{path}'"],
                    line: &[],
                    with: None,
                }),
            ],
            "The code writes {path}, where it may not.",
            "Write to /data for what is to stay, or to /tmp for what is not; everything else is read-only.",
        )
    },
    Entry {
        change: Change::Replace(&[("asyncio.run(", "await (")]),
        rows: &["E15"],
        ..own(
            Code::EventLoopRunning,
            "The code starts a second event loop",
            &[raised(
                &["RuntimeError"],
                &[
                    "asyncio.run() cannot be called from a running event loop",
                    "This event loop is already running",
                    "Cannot run the event loop while another loop is running",
                ],
            )],
            "The code starts an event loop inside one that is running{code}.",
            "Await the coroutine instead of running it.",
        )
    },
    own(
        Code::ImportFailed,
        "The code raised an exception while it was imported",
        &[Match::Found(
            "No other entry knows the exception; it is quoted as it is.",
        )],
        "Importing the code raised {what}.",
        "Correct {place}; the whole traceback is in the log.",
    ),
];
