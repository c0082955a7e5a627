use axum::body::Body;
use axum::http::HeaderMap;
use axum::routing::get;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::testing;

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

async fn ask(router: Router, host: &str, path: &str) -> Answer {
    let request = Request::get(path)
        .header(header::HOST, host)
        .body(Body::empty())
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

#[test]
fn the_public_name_is_compared_as_browsers_write_it() {
    assert!(is_public("localhost:8080", "LOCALHOST:8080"));
    assert!(is_public("berth.example.com", "berth.example.com:443"));
    assert!(!is_public("localhost:8080", "localhost"));
    assert!(!is_public("localhost:8080", "127.0.0.1:8080"));
    assert!(!is_public(
        "berth.example.com",
        "berth.example.com.evil.example"
    ));
}

#[tokio::test]
async fn only_our_own_name_is_answered() {
    let app = testing::app().await;
    for (host, path, status) in [
        ("localhost:8080", "/signin", 200),
        ("LocalHost:8080", "/signin", 200),
        ("evil.example", "/signin", 421),
        ("evil.example", "/api/v1/projects", 421),
        ("127.0.0.1:8081", "/signin", 421),
        ("127.0.0.1:8081", "/api/v1/health", 200),
        // Runners and edges come by address and with a token, and never under the public name.
        ("127.0.0.1:8081", "/internal/edge/routes", 401),
        ("localhost:8080", "/internal/edge/routes", 404),
    ] {
        let answer = ask(router(&app), host, path).await;
        assert_eq!(answer.status, status, "{host} {path}");
    }
}

#[tokio::test]
async fn every_answer_is_named_and_hardened() {
    let app = testing::app().await;
    for path in [
        "/signin",
        "/nothing/here",
        "/api/v1/projects",
        "/oauth/authorize",
    ] {
        let answer = ask(router(&app), "localhost:8080", path).await;
        let policies: Vec<_> = answer
            .headers
            .get_all(header::CONTENT_SECURITY_POLICY)
            .iter()
            .collect();
        assert_eq!(policies.len(), 1, "{path}");
        assert!(
            policies[0].to_str().unwrap().contains("default-src 'none'"),
            "{path}"
        );
        assert_eq!(
            answer.headers["x-content-type-options"], "nosniff",
            "{path}"
        );
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
        assert!(answer.headers.contains_key("x-request-id"), "{path}");
        assert!(
            !answer.headers.contains_key("strict-transport-security"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn over_https_browsers_are_told_to_stay_there() {
    let flags = [
        "--url",
        "https://berth.example.com",
        "--apps-domain",
        "apps-example.net",
    ];
    let app = testing::app_with(testing::config(&flags)).await;
    let answer = ask(router(&app), "berth.example.com", "/signin").await;
    assert_eq!(
        answer.headers["strict-transport-security"],
        STRICT_TRANSPORT_SECURITY
    );
}

#[tokio::test]
async fn the_api_answers_what_is_not_there_as_a_problem() {
    let app = testing::app().await;
    let answer = ask(router(&app), "localhost:8080", "/api/v1/nothing").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
}

#[tokio::test]
async fn a_panic_is_an_answer_with_the_requests_id() {
    async fn panics() -> StatusCode {
        panic!("what happened")
    }
    let router = Router::new()
        .route("/", get(panics))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(observe));
    let answer = ask(router, "localhost:8080", "/").await;
    assert_eq!(answer.status, 500);
    assert!(
        answer
            .text
            .contains(answer.headers["x-request-id"].to_str().unwrap())
    );
    assert!(!answer.text.contains("what happened"));
}
