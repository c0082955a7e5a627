//! Diagnoses of an instance that does not become or stay healthy.

use super::python::{Exception, explain};
use super::{Code, diagnosis, is_noise, last_lines};
use crate::protocol::Diagnosis;

/// Most characters of an answer in a cause.
const MAX_EXCERPT_CHARS: usize = 160;

/// What an instance answered to the MCP probe, where it is not what an MCP server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAnswer<'a> {
    /// An HTTP status that means no, and the beginning of its body.
    Status(u16, &'a str),
    /// A JSON-RPC error: its code and message.
    Refused(i64, &'a str),
    /// Something that is not MCP: the beginning of it.
    NotMcp(&'a str),
    /// Nothing in time.
    Silent,
    /// The connection broke: why.
    Broken(&'a str),
}

/// The process runs and its port stays closed.
pub fn port_never_opened(port: u16, seconds: u64, tail: &[String]) -> Diagnosis {
    if speaks_stdio(tail) {
        return stdio_transport();
    }
    diagnosis(
        Code::PortNotOpened,
        format!("The server did not open port {port} within {seconds} seconds."),
        "Let the entrypoint name the server object so that the platform serves it, or listen on 0.0.0.0 and the port in $PORT.",
    )
}

/// Nothing was reported in the time that a start may take: imports hang or are very slow.
pub fn start_timeout(seconds: u64, tail: &[String]) -> Diagnosis {
    let last = last_lines(tail);
    let said = if last.is_empty() {
        "it wrote nothing".to_owned()
    } else {
        format!("the last lines were: {last}")
    };
    diagnosis(
        Code::StartTimeout,
        format!("The server was not ready within {seconds} seconds; {said}."),
        "Move slow work (downloads, connections, model loading) out of import time into a lifespan or the first call.",
    )
}

/// The process ended. `exit` is its code, `oom` whether the kernel ended it for its memory,
/// `tail` the last lines it wrote.
pub fn exited(exit: Option<i64>, oom: bool, tail: &[String]) -> Diagnosis {
    if oom {
        return out_of_memory(None);
    }
    if exit == Some(0) && speaks_stdio(tail) {
        return stdio_transport();
    }
    if let Some(found) = last_exception(tail) {
        return found;
    }
    let how = match exit {
        None => "without an exit code".to_owned(),
        Some(0) => "with exit code 0, as if its work were done".to_owned(),
        Some(137) => "because it was killed (137), often for using too much memory".to_owned(),
        Some(139) => "with a crash in native code (139)".to_owned(),
        Some(143) => "because it was told to stop (143)".to_owned(),
        Some(code) => format!("with exit code {code}"),
    };
    let last = last_lines(tail);
    if last.is_empty() {
        return diagnosis(
            Code::Exited,
            format!("The server ended by itself {how}, without a word."),
            "Run it on your machine with the same entrypoint and variables, and deploy again when it stays up.",
        );
    }
    diagnosis(
        Code::Exited,
        format!("The server ended by itself {how}; the last lines were: {last}"),
        "Correct what its log names and deploy again.",
    )
}

/// The kernel ended the instance because it used more than its memory, in bytes where known.
pub fn out_of_memory(limit: Option<i64>) -> Diagnosis {
    let limit = limit
        .map(|bytes| format!(" of {} MiB", bytes / 1024 / 1024))
        .unwrap_or_default();
    diagnosis(
        Code::OutOfMemory,
        format!("The server used more than its memory{limit} and was ended."),
        "Load less at once, or raise the project's memory limit, and deploy again.",
    )
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

/// The server's own guard against unknown hosts answered, to the public host and to `localhost`.
fn host_refused(status: u16, body: &str, host: &str) -> Diagnosis {
    diagnosis(
        Code::HostRefused,
        format!(
            "The server answers {status} to its public host name {host}{}, and to localhost too.",
            quoted(body)
        ),
        format!(
            "Add {host} to the server's allowed hosts (allowed_hosts in Python, allowedHosts in TypeScript), or turn its host check off: the platform checks the host before it."
        ),
    )
}

/// The port is open and the probe did not get an MCP answer.
pub fn probe_failed(answer: &ProbeAnswer<'_>, host: &str, tail: &[String]) -> Diagnosis {
    const SERVE: &str = "Serve Streamable HTTP at /mcp, or let the entrypoint name the server object so that the platform serves it.";
    let failed = |cause: String, fix: &str| diagnosis(Code::McpProbeFailed, cause, fix);
    match answer {
        ProbeAnswer::Status(status, body) if refuses_host(*status, body) => {
            host_refused(*status, body, host)
        }
        ProbeAnswer::Status(status @ (401 | 403), _) => failed(
            format!("The server asks for its own sign-in ({status}) before it answers."),
            "Remove the server's own authentication, since the platform protects it, or set the project's access mode to tenant so that the server decides who may call; then deploy again.",
        ),
        ProbeAnswer::Status(status @ (307 | 308), _) => failed(
            format!(
                "The server redirects /mcp ({status}), so its MCP endpoint is at another path."
            ),
            "Mount it so that /mcp itself answers: mcp.http_app(path=\"/\") mounted at /mcp, or http_app(path=\"/mcp\") mounted at /.",
        ),
        ProbeAnswer::Status(404 | 405, _) => failed(
            "The server answers, but has no MCP endpoint at /mcp, nor one at /sse.".to_owned(),
            SERVE,
        ),
        ProbeAnswer::Status(status, body) => last_exception(tail).unwrap_or_else(|| {
            failed(
                format!(
                    "The server answers the MCP probe with status {status}{}.",
                    excerpt(body)
                ),
                "Read the server's log for this request, correct what it names, and deploy again.",
            )
        }),
        ProbeAnswer::Refused(code, message) => failed(
            format!(
                "The server refuses the MCP probe with error {code}{}.",
                excerpt(message)
            ),
            "Correct what the message names and deploy again.",
        ),
        ProbeAnswer::NotMcp(body) => failed(
            format!("The server's answer at /mcp is not MCP{}.", excerpt(body)),
            SERVE,
        ),
        ProbeAnswer::Silent => failed(
            "The server accepts connections at /mcp and does not answer.".to_owned(),
            "Check that nothing blocks its event loop at start, such as a synchronous call inside an async function.",
        ),
        ProbeAnswer::Broken(why) => last_exception(tail).unwrap_or_else(|| {
            failed(
                format!("The connection to the server broke{}.", excerpt(why)),
                "Read the server's log, correct what it names, and deploy again.",
            )
        }),
    }
}

/// What a server said, where it said something, in parentheses.
fn quoted(text: &str) -> String {
    let text: String = text.trim().chars().take(MAX_EXCERPT_CHARS).collect();
    if text.is_empty() {
        text
    } else {
        format!(" ({text})")
    }
}

fn excerpt(text: &str) -> String {
    let text: String = text.trim().chars().take(MAX_EXCERPT_CHARS).collect();
    if text.is_empty() {
        text
    } else {
        format!(": {}", text.trim_end_matches('.'))
    }
}

fn stdio_transport() -> Diagnosis {
    diagnosis(
        Code::StdioTransport,
        "The server speaks stdio, and ended because nobody writes to its standard input.",
        "Let the entrypoint name the server object (file.py:mcp) so that the platform serves it over HTTP.",
    )
}

fn speaks_stdio(tail: &[String]) -> bool {
    tail.iter()
        .any(|line| line.contains("with transport 'stdio'"))
}

/// The last line of a traceback, where the log ends with one that is known.
fn last_exception(tail: &[String]) -> Option<Diagnosis> {
    let line = tail
        .iter()
        .rev()
        .map(|line| line.trim())
        .find(|line| !line.is_empty() && !is_noise(line))?;
    let (class, message) = line.split_once(": ")?;
    let class = class.rsplit('.').next().unwrap_or(class);
    let looks_like_class = class.chars().next().is_some_and(char::is_uppercase)
        && class.chars().all(|c| c.is_alphanumeric() || c == '_');
    if !looks_like_class {
        return None;
    }
    explain(&Exception {
        class,
        message,
        code: None,
        dependencies: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn stdio_servers_are_recognised() {
        let tail = lines(&["INFO Starting MCP server 'x' with transport 'stdio'"]);
        assert_eq!(exited(Some(0), false, &tail).code, "stdio_transport");
        assert_eq!(port_never_opened(8080, 90, &tail).code, "stdio_transport");
        assert_eq!(exited(Some(0), false, &[]).code, "exited");
        assert_eq!(port_never_opened(8080, 90, &[]).code, "port_not_opened");
    }

    #[test]
    fn exits_say_how() {
        assert_eq!(exited(Some(137), true, &[]).code, "out_of_memory");
        assert!(exited(Some(139), false, &[]).cause.contains("native code"));
        let found = exited(Some(3), false, &lines(&["boom", "ClosedResourceError"]));
        assert_eq!(
            found.cause,
            "The server ended by itself with exit code 3; the last lines were: boom"
        );
        let tail = lines(&[
            "Traceback (most recent call last):",
            "ModuleNotFoundError: No module named 'yaml'",
        ]);
        assert_eq!(exited(Some(1), false, &tail).code, "import_error");
        assert!(
            out_of_memory(Some(512 * 1024 * 1024))
                .cause
                .contains("512 MiB")
        );
    }

    #[test]
    fn probes_are_told_apart() {
        let code = |answer: ProbeAnswer<'_>| probe_failed(&answer, "p.example", &[]).code;
        assert_eq!(code(ProbeAnswer::Status(421, "")), "host_refused");
        assert_eq!(
            code(ProbeAnswer::Status(
                403,
                r#"{"error":{"message":"Invalid Host: p"}}"#
            )),
            "host_refused"
        );
        for answer in [
            ProbeAnswer::Status(403, "no"),
            ProbeAnswer::Status(404, ""),
            ProbeAnswer::Status(307, ""),
            ProbeAnswer::Status(500, "x"),
            ProbeAnswer::Refused(-32600, "no"),
            ProbeAnswer::NotMcp("<html>"),
            ProbeAnswer::Silent,
            ProbeAnswer::Broken("reset"),
        ] {
            assert_eq!(code(answer), "mcp_probe_failed");
        }
        let tail = lines(&[
            "RuntimeError: FastMCP's StreamableHTTPSessionManager task group was not initialized. x",
        ]);
        assert_eq!(
            probe_failed(&ProbeAnswer::Status(500, ""), "p", &tail).code,
            "serve_failed"
        );
    }

    #[test]
    fn a_slow_start_quotes_the_end_of_the_log() {
        assert!(start_timeout(90, &[]).cause.contains("wrote nothing"));
        assert!(
            start_timeout(90, &lines(&["Downloading model"]))
                .cause
                .contains("Downloading model")
        );
    }
}
