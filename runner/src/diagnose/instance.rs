//! Diagnoses of an instance that does not become or stay healthy.

use std::net::SocketAddr;

use super::evidence::{Event, Evidence, explain, found, found_in};
use super::log::{any_exception, last_exception};
use super::{Code, said};
use crate::limits::MIB;
use crate::protocol::Diagnosis;

/// Most characters of an answer in a cause.
const MAX_EXCERPT_CHARS: usize = 160;

/// Restarts in a row from which on a server is said to end again and again.
const CRASH_LOOP: u32 = 3;

/// 128 + SIGILL, SIGABRT, SIGBUS, SIGSEGV.
const NATIVE_CRASHES: &[i64] = &[132, 134, 135, 139];

/// 128 + SIGKILL.
const KILLED: i64 = 137;

/// What an instance answered to the MCP probe, where it is not what an MCP server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeAnswer<'a> {
    /// An HTTP status that means no, the beginning of its body, and the path at which MCP was
    /// answered instead.
    Status(u16, &'a str, Option<&'a str>),
    /// A JSON-RPC error: the method that was asked, its code and message.
    Refused(&'a str, i64, &'a str),
    /// Something that is not MCP: the beginning of it.
    NotMcp(&'a str),
    /// Nothing in time.
    Silent,
    /// The connection broke: why.
    Broken(&'a str),
}

/// How a start came to its time's end without an open port.
#[derive(Debug, Clone, Copy)]
pub struct Started<'a> {
    /// The port that had to be opened.
    pub port: u16,
    /// The time a start may take, seconds.
    pub seconds: u64,
    /// Whether the code was imported.
    pub imported: bool,
    /// Where the instance's processes listen.
    pub listening: &'a [SocketAddr],
}

/// The process runs and its port stays closed.
pub fn not_listening(started: &Started<'_>, tail: &[String]) -> Diagnosis {
    let port = ("port", started.port.to_string());
    let seconds = ("seconds", started.seconds.to_string());
    if let Some(address) = started
        .listening
        .iter()
        .find(|at| at.port() == started.port)
    {
        return found(
            Code::LoopbackOnly,
            &[("address", address.to_string()), port],
        );
    }
    if let Some(address) = started.listening.first() {
        return found(Code::WrongPort, &[("address", address.to_string()), port]);
    }
    if speaks_stdio(tail) {
        return found(Code::StdioTransport, &[]);
    }
    if started.imported {
        return found(Code::PortNotOpened, &[port, seconds]);
    }
    let said = said(tail);
    found(
        Code::StartTimeout,
        &[("said", said.trim_start_matches("; ").to_owned()), seconds],
    )
}

/// The process ended while it started. `exit` is its code, `oom` whether the kernel ended it for
/// its memory, of which it had `limit` bytes; `tail` are the last lines it wrote.
pub fn exited(
    exit: i64,
    oom: bool,
    limit: i64,
    tail: &[String],
    known: &Evidence<'_>,
) -> Diagnosis {
    if oom || exit == KILLED {
        return out_of_memory(limit);
    }
    if exit == 0 && speaks_stdio(tail) {
        return found(Code::StdioTransport, &[]);
    }
    if let Some(found) = last_exception(tail, known) {
        return found;
    }
    if NATIVE_CRASHES.contains(&exit) {
        return found(
            Code::NativeCrash,
            &[("exit", exit.to_string()), ("said", said(tail))],
        );
    }
    found(Code::Exited, &[("how", how(exit)), ("said", said(tail))])
}

/// The process ended while it was live, for the `times`th time in a row.
pub fn crashed(exit: i64, oom: bool, limit: i64, times: u32, tail: &[String]) -> Diagnosis {
    if times < CRASH_LOOP || oom || exit == KILLED {
        return exited(exit, oom, limit, tail, &Evidence::default());
    }
    found(
        Code::CrashLoop,
        &[
            ("times", times.to_string()),
            ("how", how(exit)),
            ("said", said(tail)),
        ],
    )
}

/// It is live and does not answer.
pub fn stopped_answering(seconds: u64) -> Diagnosis {
    found(Code::Hung, &[("seconds", seconds.to_string())])
}

fn how(exit: i64) -> String {
    match exit {
        0 => "with exit code 0, as if its work were done".to_owned(),
        143 => "because it was told to stop (143)".to_owned(),
        code => format!("with exit code {code}"),
    }
}

/// The kernel ended the instance because it used more than its memory, in bytes where known.
fn out_of_memory(limit: i64) -> Diagnosis {
    let limit = if limit > 0 {
        format!(" of {} MiB", limit / MIB)
    } else {
        String::new()
    };
    found(Code::OutOfMemory, &[("limit", limit)])
}

/// Whether an answer is a server's own guard against unknown hosts (DNS rebinding): 421, or a
/// refusal that speaks of the host or the origin. `Invalid Host header` comes with 421 from the
/// Python SDK, with 403 from the TypeScript SDK, and with 400 from Starlette's middleware.
pub fn refuses_host(status: u16, body: &str) -> bool {
    let body = body.to_lowercase();
    let speaks_of = |words: &[&str]| words.iter().any(|word| body.contains(word));
    match status {
        421 => true,
        400 => speaks_of(&["invalid host"]),
        403 => {
            speaks_of(&["host", "origin"])
                && speaks_of(&["invalid", "forbidden", "not allowed", "disallowed"])
        }
        _ => false,
    }
}

/// The port is open and the probe did not get an MCP answer.
pub fn probe_failed(
    answer: &ProbeAnswer<'_>,
    host: &str,
    tail: &[String],
    known: &Evidence<'_>,
) -> Diagnosis {
    let say = |code, values: &[(&str, String)]| found_in(code, &Evidence { values, ..*known });
    match *answer {
        ProbeAnswer::Status(status, body, _) if refuses_host(status, body) => say(
            Code::HostRefused,
            &[
                ("status", status.to_string()),
                ("host", host.to_owned()),
                ("said", quoted(body)),
            ],
        ),
        ProbeAnswer::Status(status @ (401 | 403), ..) => {
            say(Code::SignInRequired, &[("status", status.to_string())])
        }
        ProbeAnswer::Status(status, _, Some(path)) => say(
            Code::McpElsewhere,
            &[("status", status.to_string()), ("path", path.to_owned())],
        ),
        ProbeAnswer::Status(307 | 308 | 404 | 405, _, None) => say(Code::NoMcpEndpoint, &[]),
        ProbeAnswer::Status(status, body, None) => {
            any_exception(tail, known).unwrap_or_else(|| {
                say(
                    Code::ServerError,
                    &[("status", status.to_string()), ("said", excerpt(body))],
                )
            })
        }
        ProbeAnswer::Refused(method, error, message) => {
            explain(Event::Exception("", message), known)
                .or_else(|| any_exception(tail, known))
                .unwrap_or_else(|| {
                    say(
                        Code::McpRefused,
                        &[
                            ("method", method.to_owned()),
                            ("error", error.to_string()),
                            ("said", excerpt(message)),
                        ],
                    )
                })
        }
        ProbeAnswer::NotMcp(body) => say(Code::NotMcp, &[("said", excerpt(body))]),
        ProbeAnswer::Silent => say(Code::ServerSilent, &[]),
        ProbeAnswer::Broken(why) => any_exception(tail, known)
            .unwrap_or_else(|| say(Code::McpProbeFailed, &[("said", excerpt(why))])),
    }
}

/// What a server said, where it said something, in parentheses.
fn quoted(text: &str) -> String {
    match beginning(text) {
        text if text.is_empty() => text,
        text => format!(" ({text})"),
    }
}

/// What a server said, where it said something, after a colon.
fn excerpt(text: &str) -> String {
    match beginning(text) {
        text if text.is_empty() => text,
        text => format!(": {}", text.trim_end_matches('.')),
    }
}

fn beginning(text: &str) -> String {
    text.trim().chars().take(MAX_EXCERPT_CHARS).collect()
}

/// FastMCP's own line at the start of a stdio server. FastMCP 2 adds the place in its code.
fn speaks_stdio(tail: &[String]) -> bool {
    tail.iter().any(|line| {
        line.split_once("with transport 'stdio'")
            .is_some_and(|(_, rest)| rest.trim().is_empty() || rest.contains(".py:"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|line| (*line).to_owned()).collect()
    }

    fn ends(exit: i64, tail: &[String]) -> Diagnosis {
        exited(exit, false, 512 * MIB, tail, &Evidence::default())
    }

    fn late(imported: bool, listening: &[&str], tail: &[String]) -> Diagnosis {
        let listening: Vec<SocketAddr> = listening.iter().map(|at| at.parse().unwrap()).collect();
        let started = Started {
            port: 8080,
            seconds: 90,
            imported,
            listening: &listening,
        };
        not_listening(&started, tail)
    }

    #[test]
    fn r51_closed_ports_are_told_apart() {
        let stdio = lines(&["INFO Starting MCP server 'x' with transport 'stdio'"]);
        let placed =
            lines(&["INFO Starting MCP server 'x' with transport 'stdio'  server.py:2502"]);
        for (imported, listening, tail, code) in [
            (true, &[][..], &[][..], "port_not_opened"),
            (false, &[], &[], "start_timeout"),
            (true, &["127.0.0.1:8080"], &[], "loopback_only"),
            (true, &["0.0.0.0:3000"], &[], "wrong_port"),
            (false, &["127.0.0.1:8000"], &[], "wrong_port"),
            (true, &["[::1]:8080", "0.0.0.0:3000"], &[], "loopback_only"),
            (true, &[], &stdio[..], "stdio_transport"),
        ] {
            assert_eq!(late(imported, listening, tail).code, code, "{listening:?}");
        }
        assert_eq!(ends(0, &stdio).code, "stdio_transport");
        assert_eq!(ends(0, &placed).code, "stdio_transport");
        assert_eq!(ends(0, &[]).code, "exited");
        assert!(
            late(false, &["127.0.0.1:8000"], &[])
                .cause
                .contains("127.0.0.1:8000")
        );
    }

    #[test]
    fn exits_say_how() {
        assert_eq!(ends(137, &[]).code, "out_of_memory");
        assert!(ends(137, &[]).cause.contains("512 MiB"));
        assert_eq!(ends(139, &[]).code, "native_crash");
        let found = ends(3, &lines(&["boom", "ClosedResourceError"]));
        assert_eq!(
            found.cause,
            "The server ended by itself with exit code 3; the last lines were: boom."
        );
        let tail = lines(&[
            "Traceback (most recent call last):",
            "ModuleNotFoundError: No module named 'yaml'",
        ]);
        assert_eq!(ends(1, &tail).code, "package_missing");
    }

    #[test]
    fn a_live_server_that_ends_again_and_again_is_said_to() {
        let ends = |times, oom| crashed(3, oom, 0, times, &[]).code;
        assert_eq!(ends(1, false), "exited");
        assert_eq!(ends(3, false), "crash_loop");
        assert_eq!(ends(3, true), "out_of_memory");
    }

    #[test]
    fn r51_answers_are_told_apart() {
        let code = |answer: ProbeAnswer<'_>| {
            probe_failed(&answer, "p.example", &[], &Evidence::default()).code
        };
        let host = r#"{"error":{"message":"Invalid Host: p"}}"#;
        for (answer, expected) in [
            (ProbeAnswer::Status(421, "", None), "host_refused"),
            (ProbeAnswer::Status(403, host, None), "host_refused"),
            (ProbeAnswer::Status(403, "no", None), "sign_in_required"),
            (ProbeAnswer::Status(404, "", None), "no_mcp_endpoint"),
            (
                ProbeAnswer::Status(307, "", Some("/mcp/mcp")),
                "mcp_elsewhere",
            ),
            (ProbeAnswer::Status(500, "x", None), "server_error"),
            (
                ProbeAnswer::Refused("initialize", -32600, "no"),
                "mcp_refused",
            ),
            (ProbeAnswer::NotMcp("<html>"), "not_mcp"),
            (ProbeAnswer::Silent, "server_silent"),
            (ProbeAnswer::Broken("reset"), "mcp_probe_failed"),
        ] {
            assert_eq!(code(answer), expected, "{answer:?}");
        }
        let tail = lines(&[
            "RuntimeError: FastMCP's StreamableHTTPSessionManager task group was not initialized. x",
            "    more of the traceback",
        ]);
        let error = ProbeAnswer::Status(500, "", None);
        assert_eq!(
            probe_failed(&error, "p", &tail, &Evidence::default()).code,
            "lifespan_not_passed"
        );
    }

    #[test]
    fn a_slow_start_quotes_the_end_of_the_log() {
        assert!(late(false, &[], &[]).cause.contains("it wrote nothing"));
        assert!(
            late(false, &[], &lines(&["Downloading model"]))
                .cause
                .contains("Downloading model")
        );
    }
}
