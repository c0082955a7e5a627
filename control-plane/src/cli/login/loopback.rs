//! Where the browser brings the answer: one page on this machine, for one sign-in (RFC 8252
//! section 7.3).

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderName, StatusCode, header};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The browser gets its page within this; it may keep connections open that nobody needs.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// The page needs no script, is in no history's search and tells nobody where it was.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::CONNECTION, "close"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// The answer of an authorization request (RFC 6749 sections 4.1.2 and 4.1.2.1, RFC 9207).
#[derive(Debug, Deserialize)]
pub struct Answer {
    /// Which request it answers.
    state: String,
    /// Who answers.
    pub iss: Option<String>,
    /// The yes.
    pub code: Option<String>,
    /// The no.
    pub error: Option<String>,
    /// Why not.
    pub error_description: Option<String>,
}

/// A listener on a port of the system's choice.
#[derive(Debug)]
pub struct Loopback {
    listener: TcpListener,
    port: u16,
}

/// What the page knows.
#[derive(Debug)]
struct Expected {
    state: String,
    answers: mpsc::Sender<Answer>,
}

impl Loopback {
    /// Starts to listen, on IPv4's loopback alone.
    pub async fn bind() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("cannot listen on 127.0.0.1 for the browser's answer")?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    /// Where the answer is to be sent.
    pub fn redirect_uri(&self) -> String {
        format!("http://127.0.0.1:{}/callback", self.port)
    }

    /// Waits for the answer with `state`. Whatever else is asked here changes nothing: any
    /// program and any page can ask.
    pub async fn answer(self, state: String) -> anyhow::Result<Answer> {
        let (answers, mut arrived) = mpsc::channel(1);
        let router = Router::new()
            .route("/callback", get(callback))
            .with_state(Arc::new(Expected { state, answers }));
        let done = CancellationToken::new();
        let server = axum::serve(self.listener, router)
            .with_graceful_shutdown(done.clone().cancelled_owned())
            .into_future();
        let mut server = std::pin::pin!(server);
        let answer = tokio::select! {
            answer = arrived.recv() => answer,
            ended = &mut server => {
                ended.context("the listener for the browser's answer failed")?;
                None
            }
        };
        done.cancel();
        // Late or not, the answer is here.
        let _ = timeout(GOODBYE_LIMIT, server).await;
        answer.context("the listener for the browser's answer ended")
    }
}

async fn callback(
    State(expected): State<Arc<Expected>>,
    answer: Result<Query<Answer>, QueryRejection>,
) -> Response {
    let Some(Query(answer)) = answer
        .ok()
        .filter(|Query(answer)| answer.state == expected.state)
    else {
        return page(
            StatusCode::BAD_REQUEST,
            "This is not the answer",
            "berth login did not ask for this; it is still waiting.",
        );
    };
    let (title, text) = if answer.code.is_some() {
        (
            "Allowed",
            "Go back to the terminal; you can close this page.",
        )
    } else {
        (
            "Nothing was allowed",
            "The terminal says why; you can close this page.",
        )
    };
    // Full when the answer came before: the first one counts.
    let _ = expected.answers.try_send(answer);
    page(StatusCode::OK, title, text)
}

/// Constant words only: nothing of the request comes back.
fn page(status: StatusCode, title: &str, text: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title} · Berth</title>\
         <style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:20vh auto;\
         padding:0 1rem}}</style><h1>{title}</h1><p>{text}</p></html>"
    );
    (status, HEADERS, Html(html)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_answer_with_the_state_ends_the_waiting() {
        let loopback = Loopback::bind().await.unwrap();
        let at = loopback.redirect_uri();
        let asked = async move {
            let mut statuses = Vec::new();
            for query in [
                "",
                "?code=1",
                "?state=wrong&code=1",
                "?state=right&state=right&code=1",
                "?state=right&code=2&iss=x",
            ] {
                statuses.push(ask(&format!("{at}{query}")).await);
            }
            statuses
        };
        let (answer, statuses) = tokio::join!(loopback.answer("right".to_owned()), asked);
        let answer = answer.unwrap();
        assert_eq!(answer.code.as_deref(), Some("2"));
        assert_eq!(answer.iss.as_deref(), Some("x"));
        assert_eq!(statuses, [400, 400, 400, 400, 200]);
    }

    async fn ask(url: &str) -> u16 {
        #[expect(clippy::disallowed_methods, reason = "it asks this very process")]
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(url).send().await.unwrap().status().as_u16()
    }
}
