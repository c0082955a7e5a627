//! The catalogue: every diagnosis there can be. Everything else is derived from it: what a failed
//! deployment says, `docs/errors.md`, the page `/docs/errors`, and which fixtures the tests need.
//!
//! The order counts: of two entries that match, the first one is the diagnosis.

mod api;
mod check;
mod fetch;
mod import;
mod install;
mod live;
mod object;
mod plan;
mod project;
mod serve;

use super::code::Code;
use super::entry::Entry;

const FASTMCP_2: &str = "fastmcp==2.14.7";
const FASTMCP_3: &str = "fastmcp==3.4.10";
const FASTMCP_4: &str = "fastmcp==4.1.2";
const MCP_1: &str = "mcp==1.30.0";
const MCP_2: &str = "mcp==2.3.0";
/// Every major release of FastMCP.
const ALL_FASTMCP: &[&str] = &[FASTMCP_2, FASTMCP_3, FASTMCP_4];
/// Those since the constructor takes no transport.
const SINCE_FASTMCP_3: &[&str] = &[FASTMCP_3, FASTMCP_4];
/// Those since the package of the same name uses SDK 2.
const SINCE_FASTMCP_4: &[&str] = &[FASTMCP_4];

const GROUPS: &[&[Entry]] = &[
    fetch::ENTRIES,
    plan::ENTRIES,
    install::ENTRIES,
    import::ENTRIES,
    api::ENTRIES,
    project::ENTRIES,
    object::ENTRIES,
    serve::ENTRIES,
    check::ENTRIES,
    live::ENTRIES,
];

/// Every entry, in the order in which a deployment can meet them.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    GROUPS.iter().copied().flatten()
}

/// The entry of a code.
pub fn entry(code: Code) -> &'static Entry {
    entries()
        .find(|entry| entry.code == code)
        .expect("a test holds the catalogue to its codes")
}

/// What is often taken for an error and is none here: its row in the list of well-known errors,
/// what it is about, and why nothing has to be diagnosed.
pub const NO_ERRORS: &[(&str, &str, &str)] = &[
    (
        "E2",
        "A coroutine that is not awaited",
        "Shows at a call, and the server deploys: the caller gets the text of the coroutine. The log has Python's warning.",
    ),
    (
        "E3",
        "A context that is not injected",
        "Shows at a call: the parameter becomes an argument of the tool, and the caller is told that it is missing.",
    ),
    (
        "E6",
        "Arguments that do not fit",
        "The caller's mistake, and the caller is told.",
    ),
    (
        "E12",
        "Dates that are not JSON",
        "FastMCP writes them as text.",
    ),
    (
        "E14",
        "A deprecation warning",
        "Only a warning; code that needs a newer Python has an entry of its own.",
    ),
    (
        "E19",
        "Endless recursion",
        "Shows at a call. A middleware with other parameters than (self, context, call_next) is found when the server is asked, and has an entry.",
    ),
    (
        "E25",
        "A lifespan that runs once per server",
        "That is how it works.",
    ),
    (
        "E27",
        "A method that the context does not have",
        "Shows at a call, and the caller is told.",
    ),
    (
        "X6",
        "mcp.run() without a guard",
        "The launcher takes note of the server and serves it itself.",
    ),
    (
        "SSE",
        "A server that speaks HTTP+SSE alone",
        "It is served at /sse, with a notice.",
    ),
    (
        "DOUBLE",
        "An MCP endpoint at /mcp/mcp",
        "Where the launcher can see the routes it is reached at /mcp, with a notice; where it cannot, there is an entry.",
    ),
];
