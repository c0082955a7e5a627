//! Asking the server what a client would ask: structured answers, no texts.

use crate::diagnose::code::Code;
use crate::diagnose::entry::{Change, Entry, Match, Phase};

const SERVE: &str = "Serve Streamable HTTP at /mcp, or let the entrypoint name the server object so that the platform serves it.";

/// An entry of the phase.
const fn asked(
    code: Code,
    title: &'static str,
    matches: &'static [Match],
    cause: &'static str,
    fix: &'static str,
) -> Entry {
    Entry {
        code,
        phase: Phase::Check,
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
        rows: &["X13"],
        ..asked(
            Code::HostRefused,
            "The server refuses its public host name",
            &[Match::Found(
                "It answers 421, or 400 or 403 with words about the host, to its public name and to localhost.",
            )],
            "The server answers {status} to its public host name {host}{said}, and to localhost too.",
            "Add {host} to the server's allowed hosts (allowed_hosts in Python, allowedHosts in TypeScript), or turn its host check off: the platform checks the host before it.",
        )
    },
    asked(
        Code::SignInRequired,
        "The server asks for its own sign-in",
        &[Match::Found("It answers 401 or 403.")],
        "The server asks for its own sign-in ({status}) before it answers.",
        "Remove the server's own authentication, since the platform protects it, or set the project's access mode to tenant so that the server decides who may call; then deploy again.",
    ),
    Entry {
        rows: &["E29"],
        ..asked(
            Code::McpElsewhere,
            "The MCP endpoint is at another path",
            &[Match::Found(
                "It answers 307, 308, 404 or 405 at /mcp, and MCP at another of the usual paths.",
            )],
            "The server answers {status} at /mcp; its MCP endpoint is at {path}.",
            "Mount it so that /mcp itself answers: mcp.http_app(path=\"/mcp\") mounted at /.",
        )
    },
    Entry {
        rows: &["E7"],
        ..asked(
            Code::NoMcpEndpoint,
            "The server has no MCP endpoint",
            &[Match::Found(
                "It answers 307, 308, 404 or 405 at /mcp, and no MCP at any of the usual paths, nor at /sse.",
            )],
            "The server answers, but has no MCP endpoint at /mcp, nor one at /sse.",
            SERVE,
        )
    },
    asked(
        Code::NotMcp,
        "The answer at /mcp is not MCP",
        &[Match::Found(
            "It answers 2xx with something else than JSON-RPC.",
        )],
        "The server's answer at /mcp is not MCP{said}.",
        SERVE,
    ),
    asked(
        Code::ServerSilent,
        "The server does not answer",
        &[Match::Found(
            "The port is open, and no answer comes within the time for one.",
        )],
        "The server accepts connections at /mcp and does not answer.",
        "Check that nothing blocks its event loop, such as a synchronous call inside an async function.",
    ),
    asked(
        Code::ServerError,
        "The server answers with an error of its own",
        &[Match::Found(
            "It answers with another status that means no, and its log holds no exception that is known.",
        )],
        "The server answers the MCP probe with status {status}{said}.",
        "Read the server's log for this request, correct what it names, and deploy again.",
    ),
    asked(
        Code::McpRefused,
        "The server refuses the MCP handshake or a list",
        &[Match::Found(
            "It answers with a JSON-RPC error, and its log holds no exception that is known.",
        )],
        "The server refuses {method} with error {error}{said}.",
        "Correct what the message names and deploy again.",
    ),
    asked(
        Code::McpProbeFailed,
        "The connection to the server broke",
        &[Match::Found(
            "The connection breaks before an answer is there.",
        )],
        "The connection to the server broke{said}.",
        "Read the server's log, correct what it names, and deploy again.",
    ),
];
