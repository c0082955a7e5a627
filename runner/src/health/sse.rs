//! HTTP+SSE, the transport of revision 2024-11-05: `GET /sse` opens a stream whose first event names
//! where messages are posted, and on which they are answered (basic/transports).

use std::net::SocketAddr;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HOST};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;
use url::Url;

use super::ProbeFailure;
use super::answer::{Event, chain, excerpt, take_event};
use super::probe::{MAX_ANSWER_BYTES, REQUEST_TIMEOUT};

/// Where the stream is opened. The edge passes on this path, and [`POSTS`].
const STREAM: &str = "/sse";
/// Where the common servers take messages; others can be reached in public projects only.
const POSTS: [&str; 2] = ["/messages", "/messages/"];

/// An open stream of one server.
pub struct Sse<'a> {
    client: &'a Client,
    host: &'a str,
    /// Where messages are posted.
    endpoint: Url,
    stream: Response,
    /// What has arrived and was not read yet.
    buffer: Vec<u8>,
}

impl<'a> Sse<'a> {
    /// Opens a stream; `None` where the server has none.
    pub async fn open(
        client: &'a Client,
        address: SocketAddr,
        host: &'a str,
    ) -> Result<Option<Self>, ProbeFailure> {
        let url = format!("http://{address}{STREAM}");
        let request = client
            .get(&url)
            .header(HOST, host)
            .header(ACCEPT, "text/event-stream");
        let opening = async {
            let mut stream = request.send().await.ok()?;
            if !is_event_stream(&stream) {
                return Some(Err(refusal(&mut stream).await?));
            }
            let mut buffer = Vec::new();
            let event = next_event(&mut stream, &mut buffer).await.ok()??;
            let endpoint = endpoint(&url, &event)?;
            Some(Ok(Self {
                client,
                host,
                endpoint,
                stream,
                buffer,
            }))
        };
        timeout(REQUEST_TIMEOUT, opening)
            .await
            .unwrap_or_default()
            .transpose()
    }

    /// What its people should know.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = vec![
            "The server speaks HTTP+SSE (MCP 2024-11-05) and has nothing at /mcp: clients connect to /sse instead. Serve Streamable HTTP; clients are dropping the older transport.".to_owned(),
        ];
        let path = self.endpoint.path();
        if !POSTS.contains(&path) {
            notices.push(format!(
                "It takes messages at {path}, which is passed on in public projects only; take them at /messages/."
            ));
        }
        notices
    }

    /// Posts a message; gives the status, and for a request the answer from the stream.
    pub async fn send(
        &mut self,
        method: &str,
        message: &Value,
    ) -> Result<(StatusCode, Vec<u8>), ProbeFailure> {
        let request = self
            .client
            .post(self.endpoint.clone())
            .header(HOST, self.host)
            .header(CONTENT_TYPE, "application/json")
            .body(message.to_string());
        let id = message["id"].as_u64();
        let exchange = async {
            let response = request.send().await?;
            let status = response.status();
            if !status.is_success() || id.is_none() {
                return Ok((status, response.bytes().await?.to_vec()));
            }
            while let Some(event) = next_event(&mut self.stream, &mut self.buffer).await? {
                if answers(&event, id) {
                    return Ok((status, event.data.into_bytes()));
                }
            }
            // The stream ended: an answer without anything in it.
            Ok::<_, reqwest::Error>((status, Vec::new()))
        };
        match timeout(REQUEST_TIMEOUT, exchange).await {
            Err(_) => Err(ProbeFailure::Timeout {
                method: method.to_owned(),
            }),
            Ok(Err(error)) => Err(ProbeFailure::Connection {
                message: chain(&error),
            }),
            Ok(Ok(answer)) => Ok(answer),
        }
    }
}

fn is_event_stream(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    response.status().is_success()
        && kind
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.starts_with("text/event-stream"))
}

/// Why there is no stream, where that is the host that was told, for which another may do, or that
/// nobody is known yet.
async fn refusal(response: &mut Response) -> Option<ProbeFailure> {
    let status = response.status().as_u16();
    let body = response.chunk().await.ok()?.unwrap_or_default();
    let excerpt = excerpt(&body);
    let failure = ProbeFailure::Status {
        method: format!("GET {STREAM}"),
        status,
        excerpt,
    };
    (failure.refuses_host() || failure.asks_to_sign_in()).then_some(failure)
}

/// Where messages are posted. Only its path and query count: the server is at the address that was
/// asked, whatever host it names.
fn endpoint(stream: &str, event: &Event) -> Option<Url> {
    if event.name != "endpoint" {
        return None;
    }
    let mut url = Url::parse(stream).ok()?;
    let named = url.join(&event.data).ok()?;
    url.set_path(named.path());
    url.set_query(named.query());
    Some(url)
}

/// Whether an event holds the answer to a request.
fn answers(event: &Event, id: Option<u64>) -> bool {
    let message: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let is_answer = message.get("result").is_some() || message.get("error").is_some();
    event.name == "message" && is_answer && message["id"].as_u64() == id
}

/// The next event; `None` where the stream ended, or one is larger than any answer.
async fn next_event(
    stream: &mut Response,
    buffer: &mut Vec<u8>,
) -> Result<Option<Event>, reqwest::Error> {
    loop {
        if let Some(event) = take_event(buffer) {
            return Ok(Some(event));
        }
        match stream.chunk().await? {
            Some(chunk) if buffer.len() <= MAX_ANSWER_BYTES => buffer.extend_from_slice(&chunk),
            _ => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_the_address_that_was_asked() {
        let named = |data: &str| {
            let event = Event {
                name: "endpoint".into(),
                data: data.into(),
            };
            endpoint("http://127.0.0.1:8000/sse", &event)
                .unwrap()
                .to_string()
        };
        assert_eq!(
            named("/messages/?session_id=1"),
            "http://127.0.0.1:8000/messages/?session_id=1"
        );
        assert_eq!(
            named("https://elsewhere.example/messages"),
            "http://127.0.0.1:8000/messages"
        );
        assert_eq!(named("messages"), "http://127.0.0.1:8000/messages");
    }
}
