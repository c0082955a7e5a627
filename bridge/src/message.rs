//! What the bridge has to know of a message: whose it is. The rest passes unread.

use std::borrow::Cow;

use rmcp::model::{
    ErrorCode, ErrorData, JsonRpcError, JsonRpcVersion2_0, ProgressToken, RequestId,
};
use serde::Deserialize;

/// A message's kind and what relates it to others.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A request, which will be answered.
    Request {
        /// Its id.
        id: RequestId,
        /// Whether it begins a session.
        is_initialize: bool,
        /// What its progress will be told under.
        progress: Option<ProgressToken>,
    },
    /// The answer to a request; an error about a message that could not be read has no id.
    Response {
        /// The request's id.
        id: Option<RequestId>,
    },
    /// A notification.
    Notification {
        /// The request whose progress it tells.
        progress: Option<ProgressToken>,
        /// The request it takes back (MCP 2025-11-25, basic/utilities/cancellation).
        canceled: Option<RequestId>,
    },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "jsonrpc")]
    _version: JsonRpcVersion2_0,
    id: Option<RequestId>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    params: Option<Params>,
    #[serde(default)]
    result: Present,
    #[serde(default)]
    error: Present,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Params {
    progress_token: Option<ProgressToken>,
    request_id: Option<serde_json::Value>,
    #[serde(rename = "_meta")]
    meta: Option<Meta>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    progress_token: Option<ProgressToken>,
}

/// Whether a member is there, whatever its value.
#[derive(Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: serde::Deserializer<'de>>(member: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(member).map(|_| Self(true))
    }
}

/// Reads a message's envelope.
///
/// # Errors
/// Why it is no JSON-RPC 2.0 message.
pub fn read(bytes: &[u8]) -> Result<Kind, String> {
    let envelope: Envelope<'_> =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let params = envelope.params.unwrap_or_default();
    match (envelope.method, envelope.id) {
        (Some(method), Some(id)) => Ok(Kind::Request {
            id,
            is_initialize: method == "initialize",
            progress: params.meta.and_then(|meta| meta.progress_token),
        }),
        (Some(method), None) => Ok(Kind::Notification {
            progress: params.progress_token,
            canceled: params
                .request_id
                .filter(|_| method == "notifications/cancelled")
                .and_then(|id| serde_json::from_value(id).ok()),
        }),
        (None, id) if envelope.result.0 || envelope.error.0 => Ok(Kind::Response { id }),
        (None, _) => Err("it has neither a method nor a result".to_owned()),
    }
}

/// A message as one line of stdio. Newlines stand only between its tokens (RFC 8259 section 7), so
/// taking them out changes nothing.
pub fn line(message: &[u8]) -> Vec<u8> {
    let mut line: Vec<u8> = message
        .iter()
        .map(|byte| {
            if matches!(byte, b'\n' | b'\r') {
                b' '
            } else {
                *byte
            }
        })
        .collect();
    line.push(b'\n');
    line
}

/// An error of the bridge's own.
pub fn error(id: Option<RequestId>, code: ErrorCode, message: String) -> Vec<u8> {
    let error = JsonRpcError::new(id, ErrorData::new(code, message, None));
    serde_json::to_vec(&error).expect("it holds nothing that JSON cannot")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::model::NumberOrString;

    #[test]
    fn messages_are_told_apart() {
        let text = |text: &str| NumberOrString::String(text.into());
        let cases = [
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":"p"},"x":1e400}}"#,
                Kind::Request {
                    id: NumberOrString::Number(1),
                    is_initialize: false,
                    progress: Some(ProgressToken(text("p"))),
                },
            ),
            (
                r#"{"jsonrpc":"2.0","id":"a","method":"initialize"}"#,
                Kind::Request {
                    id: text("a"),
                    is_initialize: true,
                    progress: None,
                },
            ),
            (
                r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7}}"#,
                Kind::Notification {
                    progress: Some(ProgressToken(NumberOrString::Number(7))),
                    canceled: None,
                },
            ),
            (
                r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a"}}"#,
                Kind::Notification {
                    progress: None,
                    canceled: Some(text("a")),
                },
            ),
            (
                r#"{"jsonrpc":"2.0","method":"notifications/own","params":{"requestId":[1]}}"#,
                Kind::Notification {
                    progress: None,
                    canceled: None,
                },
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":null}"#,
                Kind::Response {
                    id: Some(NumberOrString::Number(1)),
                },
            ),
            (
                r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"no"}}"#,
                Kind::Response { id: None },
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(read(message.as_bytes()), Ok(expected), "{message}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for message in [
            "",
            "[]",
            "null",
            "Server started",
            r#"{"id":1,"method":"x"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":[1],"method":"x"}"#,
        ] {
            assert!(read(message.as_bytes()).is_err(), "{message}");
        }
    }

    #[test]
    fn a_message_becomes_one_line() {
        assert_eq!(
            line(b"{\n  \"a\": \"b\\n\"\r\n}"),
            b"{   \"a\": \"b\\n\"  }\n"
        );
    }
}
