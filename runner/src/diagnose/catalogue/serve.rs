//! Starting the server, up to its open port.

use super::{ALL_FASTMCP, FASTMCP_4};
use crate::diagnose::code::Code;
use crate::diagnose::entry::{Change, Entry, Match, Phase, raised};

/// An entry of the phase.
const fn started(
    code: Code,
    title: &'static str,
    matches: &'static [Match],
    cause: &'static str,
    fix: &'static str,
) -> Entry {
    Entry {
        code,
        phase: Phase::Serve,
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
        verified: &[FASTMCP_4],
        rows: &["E30"],
        ..started(
            Code::TasksExtensionMissing,
            "Background tasks need an extension",
            &[raised(
                &["RuntimeError"],
                &["Task-enabled tools ({names}) require the tasks extension"],
            )],
            "The tools {names} are background tasks, and the server has no tasks extension.",
            "Ask for `fastmcp[tasks]` in {file} and call mcp.add_extension(TasksExtension()), or take task=True away.",
        )
    },
    Entry {
        change: Change::None,
        verified: ALL_FASTMCP,
        rows: &["E17"],
        ..started(
            Code::LifespanNotPassed,
            "The lifespan of the FastMCP application does not run",
            &[
                raised(
                    &["RuntimeError"],
                    &[
                        "task group was not initialized",
                        "Task group is not initialized",
                    ],
                ),
                raised(
                    &["TypeError"],
                    &["Provider.lifespan() takes 1 positional argument but 2 were given"],
                ),
                raised(
                    &["AttributeError"],
                    &["'FastMCP' object has no attribute 'lifespan'"],
                ),
            ],
            "The web application does not run the lifespan of the FastMCP application that is mounted in it.",
            "Pass it on: sub = mcp.http_app(path=\"/mcp\"); app = FastAPI(lifespan=sub.lifespan); app.mount(\"/\", sub).",
        )
    },
    Entry {
        verified: ALL_FASTMCP,
        rows: &["E17"],
        ..started(
            Code::FastmcpMounted,
            "A FastMCP object is mounted as if it were a web application",
            &[raised(
                &["TypeError"],
                &["'FastMCP' object is not callable"],
            )],
            "A FastMCP object is mounted as if it were a web application.",
            "Mount mcp.http_app() and pass its lifespan on, or name the FastMCP object in the entrypoint.",
        )
    },
    Entry {
        change: Change::Require("uvicorn"),
        ..started(
            Code::UvicornMissing,
            "uvicorn is not installed",
            &[Match::Finding("serve", "uvicorn is not installed")],
            "The server is an ASGI application, and uvicorn, which serves it, is not installed.",
            "Add `uvicorn` to {file}.",
        )
    },
    Entry {
        rows: &["E10"],
        ..started(
            Code::PortInUse,
            "The code listens on the platform's port itself",
            &[
                Match::Finding("serve", "Port {port} could not be opened"),
                raised(
                    &["OSError"],
                    &["address already in use", "Address already in use"],
                ),
            ],
            "Something in the code already listens on the port that the platform gives.",
            "Remove the code that starts a server itself, or move it below `if __name__ == \"__main__\":`.",
        )
    },
    Entry {
        rows: &["E7", "X11"],
        ..started(
            Code::StdioTransport,
            "The server speaks stdio, not HTTP",
            &[Match::Found(
                "The process ends with 0, or opens no port, and its log says that it serves stdio.",
            )],
            "The server speaks stdio, and ended because nobody writes to its standard input.",
            "Let the entrypoint name the server object (file.py:mcp), so that the platform serves it over HTTP.",
        )
    },
    Entry {
        rows: &["X10"],
        ..started(
            Code::LoopbackOnly,
            "The server listens on loopback alone",
            &[Match::Found(
                "The port is closed from outside, and the instance's own table of sockets has it on loopback.",
            )],
            "The server listens on {address}, where only its own instance can reach it.",
            "Listen on 0.0.0.0 (the variable HOST), or let the entrypoint name the server object, so that the platform serves it.",
        )
    },
    Entry {
        rows: &["X10"],
        ..started(
            Code::WrongPort,
            "The server listens on another port",
            &[Match::Found(
                "The port is closed, and the instance's own table of sockets has another one.",
            )],
            "The server listens on {address}, and the platform asks at port {port}.",
            "Listen on the port in the variable PORT and on 0.0.0.0, or let the entrypoint name the server object, so that the platform serves it.",
        )
    },
    Entry {
        rows: &["X10"],
        ..started(
            Code::PortNotOpened,
            "The server did not open its port",
            &[Match::Found(
                "The code was imported, and nothing listens when the time for a start is over.",
            )],
            "The server did not open port {port} within {seconds} seconds.",
            "Let the entrypoint name the server object so that the platform serves it, or listen on 0.0.0.0 and the port in $PORT.",
        )
    },
    started(
        Code::StartTimeout,
        "The server took too long to start",
        &[Match::Found(
            "The code is still being imported when the time for a start is over, and nothing listens.",
        )],
        "The server was not ready within {seconds} seconds; {said}.",
        "Move slow work (downloads, connections, model loading) out of import time into a lifespan or the first call.",
    ),
    Entry {
        verified: &[FASTMCP_4],
        ..started(
            Code::ServeFailed,
            "The server could not be started",
            &[Match::Found(
                "No other entry knows the exception that ended the start, often one of a lifespan.",
            )],
            "Starting the server raised {what}.",
            "Correct {place}; the whole traceback is in the log.",
        )
    },
];
