//! What a server's answer says: JSON, or a stream of events.

use reqwest::StatusCode;
use serde_json::Value;

use super::ProbeFailure;

/// What is kept of an answer that is not MCP, to say what was seen.
const EXCERPT_CHARS: usize = 300;

/// One event of a stream (HTML Living Standard, section 9.2.6).
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// `message` where the stream names none.
    pub name: String,
    /// Its data lines, joined.
    pub data: String,
}

/// Takes the first whole event out of what has arrived so far. What has no data is none: a comment
/// that keeps the stream open.
pub fn take_event(buffer: &mut Vec<u8>) -> Option<Event> {
    loop {
        let end = |mark: &[u8]| {
            let at = buffer.windows(mark.len()).position(|bytes| bytes == mark)?;
            Some((at, at + mark.len()))
        };
        let ends = [end(b"\n\n"), end(b"\r\n\r\n")];
        let (at, next) = ends.into_iter().flatten().min()?;
        let event = read_event(&String::from_utf8_lossy(&buffer[..at]));
        buffer.drain(..next);
        if !event.data.is_empty() {
            return Some(event);
        }
    }
}

fn read_event(text: &str) -> Event {
    let mut name = "message".to_owned();
    let mut data = Vec::new();
    for line in text.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "data" => data.push(value),
            _ => {}
        }
    }
    Event {
        name,
        data: data.join("\n"),
    }
}

/// Where a server says who it is: in the handshake's result, or in the metadata of a modern one.
pub fn server_info(opening: &Value) -> Value {
    let legacy = &opening["serverInfo"];
    if legacy.is_null() {
        opening["_meta"]["io.modelcontextprotocol/serverInfo"].clone()
    } else {
        legacy.clone()
    }
}

/// The revisions that a modern server says it speaks (MCP 2026-07-28, `server/discover`).
pub fn supported_versions(opening: &Value) -> Vec<String> {
    /// There have been five in two years.
    const MOST: usize = 20;
    let versions = opening["supportedVersions"]
        .as_array()
        .into_iter()
        .flatten();
    let versions = versions.filter_map(Value::as_str).map(str::to_owned);
    versions.take(MOST).collect()
}

/// An error with everything that led to it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// The JSON-RPC answer to `id` in a body that is JSON or a stream of events.
pub fn find_answer(body: &[u8], id: Option<u64>) -> Option<Value> {
    let is_answer = |message: &Value| {
        let answers = message.get("result").is_some() || message.get("error").is_some();
        // An error about a message that could not be read has no id.
        answers && (message["id"].as_u64() == id || message["id"].is_null())
    };
    if let Ok(message) = serde_json::from_slice::<Value>(body) {
        return is_answer(&message).then_some(message);
    }
    let text = String::from_utf8_lossy(body);
    // Only whole events: the last one may still be on its way.
    let whole = text.rfind("\n\n").or_else(|| text.rfind("\r\n\r\n"))?;
    text[..whole]
        .replace("\r\n", "\n")
        .split("\n\n")
        .filter_map(|event| serde_json::from_str::<Value>(&read_event(event).data).ok())
        .find(is_answer)
}

/// The result in an answer to `id`, or why there is none.
pub fn read_answer(
    method: &str,
    id: u64,
    status: StatusCode,
    body: &[u8],
) -> Result<Value, ProbeFailure> {
    let method = method.to_owned();
    let excerpt = || excerpt(body);
    let Some(mut answer) = find_answer(body, Some(id)) else {
        return Err(if status.is_success() {
            ProbeFailure::NotMcp {
                method,
                excerpt: excerpt(),
            }
        } else {
            ProbeFailure::Status {
                method,
                status: status.as_u16(),
                excerpt: excerpt(),
            }
        });
    };
    if let Some(result) = answer.get_mut("result") {
        return Ok(result.take());
    }
    // Host guards answer with a JSON-RPC error and a status of their own: the status says more.
    if matches!(status.as_u16(), 401 | 403 | 421) {
        return Err(ProbeFailure::Status {
            method,
            status: status.as_u16(),
            excerpt: excerpt(),
        });
    }
    let error = &answer["error"];
    Err(ProbeFailure::Refused {
        method,
        code: error["code"].as_i64().unwrap_or_default(),
        message: error["message"].as_str().unwrap_or_default().to_owned(),
    })
}

/// The beginning of a body.
pub fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body)
        .chars()
        .take(EXCERPT_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(status: u16, body: &str) -> Result<Value, ProbeFailure> {
        read_answer(
            "tools/list",
            2,
            StatusCode::from_u16(status).unwrap(),
            body.as_bytes(),
        )
    }

    #[test]
    fn json_and_events_are_read() {
        let json = r#"{"jsonrpc":"2.0","id":2,"result":{"tools":[]}}"#;
        assert_eq!(read(200, json).unwrap(), json!({"tools": []}));
        let events =
            format!(": ping\n\nevent: message\ndata: {{\"method\":\"x\"}}\n\ndata: {json}\n\n");
        assert_eq!(read(200, &events).unwrap(), json!({"tools": []}));
        let crlf = format!("event: message\r\ndata: {json}\r\n\r\n");
        assert_eq!(read(200, &crlf).unwrap(), json!({"tools": []}));
    }

    #[test]
    fn an_event_over_several_lines_is_joined_and_half_an_event_waits() {
        let body = b"data: {\"id\":2,\ndata: \"result\":{}}\n\n";
        assert!(find_answer(body, Some(2)).is_some());
        assert!(find_answer(&body[..body.len() - 1], Some(2)).is_none());
    }

    #[test]
    fn answers_to_other_questions_are_not_ours() {
        assert!(matches!(
            read(200, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
            Err(ProbeFailure::NotMcp { .. })
        ));
    }

    #[test]
    fn errors_are_told_apart() {
        assert_eq!(
            read(200, r#"{"id":2,"error":{"code":-32601,"message":"no"}}"#),
            Err(ProbeFailure::Refused {
                method: "tools/list".into(),
                code: -32601,
                message: "no".into()
            })
        );
        assert_eq!(
            read(421, "Invalid Host header"),
            Err(ProbeFailure::Status {
                method: "tools/list".into(),
                status: 421,
                excerpt: "Invalid Host header".into()
            })
        );
        assert!(matches!(
            read(
                403,
                r#"{"id":null,"error":{"code":-32000,"message":"Invalid Host"}}"#
            ),
            Err(ProbeFailure::Status { status: 403, .. })
        ));
        assert!(matches!(
            read(200, "<html>"),
            Err(ProbeFailure::NotMcp { .. })
        ));
        assert!(matches!(
            read(404, "Not Found"),
            Err(ProbeFailure::Status { status: 404, .. })
        ));
    }

    #[test]
    fn who_a_server_is_stands_in_one_of_two_places() {
        assert_eq!(
            server_info(&json!({"serverInfo": {"name": "a"}}))["name"],
            "a"
        );
        let modern = json!({"_meta": {"io.modelcontextprotocol/serverInfo": {"name": "b"}}});
        assert_eq!(server_info(&modern)["name"], "b");
        let modern = json!({"supportedVersions": ["2026-07-28", 1, "2025-11-25"]});
        assert_eq!(supported_versions(&modern), ["2026-07-28", "2025-11-25"]);
        assert!(supported_versions(&json!({})).is_empty());
    }

    #[test]
    fn events_are_taken_one_by_one_and_only_whole() {
        let mut buffer =
            b": hello\r\n\r\nevent: endpoint\r\ndata: /messages/?session_id=1\r\n\r\nda".to_vec();
        let first = take_event(&mut buffer).unwrap();
        assert_eq!(first.name, "endpoint");
        assert_eq!(first.data, "/messages/?session_id=1");
        assert_eq!(take_event(&mut buffer), None);
        buffer.extend_from_slice(b"ta:a\ndata: b\xff\n\n");
        let second = take_event(&mut buffer).unwrap();
        assert_eq!(
            (second.name.as_str(), second.data.as_str()),
            ("message", "a\nb\u{fffd}")
        );
        assert!(buffer.is_empty());
    }
}
