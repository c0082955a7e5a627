//! Servers that end, while they start or while they are live; the platform's own faults; and what
//! nothing recognises.

use crate::diagnose::code::Code;
use crate::diagnose::entry::{Change, Entry, Match, Phase};

/// An entry that the runner finds itself.
const fn ended(
    code: Code,
    title: &'static str,
    matches: &'static [Match],
    cause: &'static str,
    fix: &'static str,
) -> Entry {
    Entry {
        code,
        phase: Phase::Live,
        title,
        matches,
        cause,
        fix,
        change: Change::None,
        verified: &[],
        rows: &[],
    }
}

pub const ENTRIES: &[Entry] = &[
    Entry {
        rows: &["X11"],
        ..ended(
            Code::OutOfMemory,
            "The server used more memory than it has",
            &[Match::Found(
                "The kernel says so, or the process was killed (137) by nobody else.",
            )],
            "The server used more than its memory{limit} and was ended.",
            "Load less at once, or raise the project's memory limit, and deploy again.",
        )
    },
    Entry {
        rows: &["X11"],
        ..ended(
            Code::NativeCrash,
            "The server crashed in native code",
            &[Match::Found(
                "The process ends with 132, 134, 135 or 139: a signal that only native code raises.",
            )],
            "The server crashed in native code ({exit}), not in Python{said}.",
            "Find the package with `python -X faulthandler`, and choose another release of it.",
        )
    },
    Entry {
        rows: &["X11"],
        ..ended(
            Code::Exited,
            "The server ended by itself",
            &[Match::Found(
                "The process ends, and its log does not end with an exception that is known.",
            )],
            "The server ended by itself {how}{said}.",
            "Correct what its log names; a server must keep running.",
        )
    },
    ended(
        Code::CrashLoop,
        "The server ends again and again",
        &[Match::Found(
            "It has ended three times in a row, each time within a minute of being healthy.",
        )],
        "The server has ended {times} times in a row, the last time {how}{said}.",
        "Correct what its log names and deploy again; it is started again meanwhile, ever later.",
    ),
    ended(
        Code::Hung,
        "The server does not answer any more",
        &[Match::Found(
            "The instance was healthy and runs, and answers no request within the time for one.",
        )],
        "The server is live and has not answered for {seconds} seconds.",
        "Look for a synchronous call inside an async function: it blocks all calls at once; a new deployment replaces the instance.",
    ),
    Entry {
        phase: Phase::Any,
        ..ended(
            Code::PlatformFailure,
            "The platform itself failed",
            &[Match::Found(
                "A full disk, an engine that does not answer, a runner that went away.",
            )],
            "{what}",
            "Deploy again; if it fails again, ask whoever runs this platform to look at the runner's log.",
        )
    },
    Entry {
        phase: Phase::Any,
        ..ended(
            Code::UnknownFailure,
            "It failed in a way that is not recognised",
            &[Match::Found(
                "Nothing else matches. The last lines of the log are shown, without a guess.",
            )],
            "{doing} failed in a way that is not recognised{said}.",
            "Read the log of this deployment above these lines, correct what it names, and deploy again.",
        )
    },
];
