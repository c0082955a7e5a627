//! Finding the server object, or calling the function that makes it.

use super::FASTMCP_4;
use crate::diagnose::code::Code;
use crate::diagnose::entry::{Change, Entry, Match, Phase};

/// An entry of the phase.
const fn looked_up(
    code: Code,
    title: &'static str,
    matches: &'static [Match],
    cause: &'static str,
    fix: &'static str,
) -> Entry {
    Entry {
        code,
        phase: Phase::Object,
        title,
        matches,
        cause,
        fix,
        change: Change::None,
        verified: &[FASTMCP_4],
        rows: &["E1"],
    }
}

pub const ENTRIES: &[Entry] = &[
    looked_up(
        Code::ServerInFunction,
        "The server is made in a function",
        &[Match::Finding(
            "object",
            "No server was found in {place}. {name}() looks as if it made one",
        )],
        "{place} has no server at module level; {name}() makes one.",
        "Set the entrypoint to {place}:{name}.",
    ),
    looked_up(
        Code::ServerInMainGuard,
        "The server is made under the main guard",
        &[Match::Finding(
            "object",
            "No server was found in {place}. It makes one only under if __name__",
        )],
        "{place} makes its server only under `if __name__ == \"__main__\"`, which is not run here.",
        "Make the server at module level, before that line; mcp.run() can stay below it.",
    ),
    looked_up(
        Code::NoServerObject,
        "The entrypoint has no MCP server object",
        &[Match::Finding(
            "object",
            "No server was found in {place}. Create one",
        )],
        "{place} was imported, and nothing in it is an MCP server.",
        "Make one at module level, for example mcp = FastMCP(\"name\"), or set the entrypoint to the file that makes it.",
    ),
    looked_up(
        Code::SeveralServers,
        "The file has several servers",
        &[Match::Finding(
            "object",
            "{place} has several servers: {names}. Set the entrypoint to one of them: {choice}.",
        )],
        "{place} has several servers: {names}.",
        "Set the entrypoint to one of them, for example {choice}.",
    ),
    looked_up(
        Code::ObjectNotFound,
        "The named object does not exist",
        &[
            Match::Finding(
                "object",
                "{place} has no object named '{name}'. It has {names}.",
            ),
            Match::Finding("object", "{place} has no object named '{name}'."),
        ],
        "{place} has no object named {name}.",
        "Set the entrypoint to an object that is there: {names}.",
    ),
    Entry {
        rows: &["X14"],
        ..looked_up(
            Code::NotAServer,
            "The named object is not an MCP server",
            &[Match::Finding(
                "object",
                "{place} is {what}, not an MCP server",
            )],
            "{place} is {what}, not an MCP server.",
            "Set the entrypoint to an object that is one: {names}.",
        )
    },
    looked_up(
        Code::FactoryNeedsArguments,
        "The function that makes the server needs arguments",
        &[Match::Finding(
            "factory",
            "{place} needs arguments ({arguments})",
        )],
        "{place} needs arguments ({arguments}); the function that makes the server is called with none.",
        "Give them defaults, or read them from variables inside the function.",
    ),
    looked_up(
        Code::FactoryReturnedNoServer,
        "The function returned no server",
        &[
            Match::Finding("factory", "{place} returned nothing"),
            Match::Finding("factory", "{place} is {what}, not an MCP server"),
        ],
        "The function {place} was called, and what it returned is not an MCP server.",
        "Let it return the server, for example a FastMCP object.",
    ),
    Entry {
        rows: &["E1"],
        ..looked_up(
            Code::FactoryFailed,
            "The function that makes the server failed",
            &[Match::Found(
                "No other entry knows the exception that the function raised.",
            )],
            "The function that makes the server raised {what}.",
            "Correct {place}; the whole traceback is in the log.",
        )
    },
];
