//! The dashboard's host: everything goes to the control plane, except its internal surface.

use std::time::Duration;

use http::header::ACCEPT;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;

use crate::body::ResponseBody;
use crate::client::Client;
use crate::error::{self, Refusal};
use crate::forward::{self, Limits, Ready};
use crate::headers;
use crate::limit::Kind;
use crate::server::Edge;

/// Longest wait for the head of an answer. It covers the upload of a source, which may take long
/// on a slow line.
const FIRST_BYTE: Duration = Duration::from_mins(15);

/// The control plane limits bodies itself, per address.
const NO_LIMIT: u64 = u64::MAX;

/// Answers a request for the dashboard's host.
pub(crate) async fn answer(
    edge: &Edge,
    client: &Client,
    mut parts: Box<Parts>,
    body: Incoming,
) -> Response<ResponseBody> {
    let wants_page = parts
        .headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    let kind = if parts.method == Method::GET {
        Kind::Stream
    } else {
        Kind::Request
    };
    let refuse = |refusal: Refusal| {
        if wants_page {
            refusal.page()
        } else {
            refusal.json()
        }
    };
    if is_internal(parts.uri.path()) {
        error::discard(&parts.headers, body).await;
        return refuse(Refusal::new(
            StatusCode::NOT_FOUND,
            "There is nothing here. Go to the dashboard's front page.",
        ));
    }
    let origin = client.origin(&parts.headers, edge.scheme);
    let added = headers::forward_request(&mut parts.headers, &origin, None, |_| false);
    let ready = match Ready::get(&edge.control).await {
        Ok(ready) => ready,
        Err(error) => {
            tracing::warn!(%error, "the control plane cannot be reached");
            return refuse(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The dashboard is not running at the moment; projects are served all the same. Try again in a few seconds.",
            )
            .retry_after(5));
        }
    };
    let limits = Limits {
        body: NO_LIMIT,
        first_byte: FIRST_BYTE,
        alarm: &client.alarm,
    };
    let answer = forward::send(&edge.control, ready, parts, &added, body, limits).await;
    match answer {
        Ok(mut response) => {
            headers::strip_hop_by_hop(response.headers_mut());
            client.note_stream(kind, headers::is_event_stream(response.headers()));
            response.map(|body| ResponseBody::Upstream(Box::new(body)))
        }
        Err((error, _)) => {
            tracing::warn!(%error, "the control plane did not answer");
            refuse(Refusal::new(
                StatusCode::BAD_GATEWAY,
                "The dashboard broke off before it answered. Look whether what you did was done, then try again.",
            ))
        }
    }
}

/// Whether a path leads to what only runners and edges may ask, however it is spelled.
fn is_internal(path: &str) -> bool {
    let decoded = percent_decoded(path);
    let first = decoded
        .split(|byte| matches!(byte, b'/' | b'\\'))
        .find(|segment| !segment.is_empty() && *segment != b".");
    // `..` may lead anywhere.
    let climbs = decoded
        .split(|byte| matches!(byte, b'/' | b'\\'))
        .any(|segment| segment == b"..");
    climbs || first.is_some_and(|first| first.eq_ignore_ascii_case(b"internal"))
}

/// The bytes of a path with every escape decoded; what is no escape stands for itself.
pub(crate) fn percent_decoded(path: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escape = (byte == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escape.unwrap_or(byte));
        rest = if escape.is_some() { &after[2..] } else { after };
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_leads_inside() {
        for path in [
            "/internal",
            "/internal/runner/sync",
            "//internal/x",
            "/./internal",
            "/%69nternal/x",
            "/Internal/x",
            "/x/../internal",
            "/x/%2e%2e/internal",
            "/%2Finternal",
            "\\internal",
        ] {
            assert!(is_internal(path), "{path}");
        }
        for path in ["/", "/internals", "/api/v1/internal", "/%zz", "/%"] {
            assert!(!is_internal(path), "{path}");
        }
    }
}
