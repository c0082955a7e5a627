//! What edges report, through the router and a real Postgres.

use axum::body::Body;
use http::{Request, StatusCode, header};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use tower::ServiceExt as _;

use crate::app::App;
use crate::signing_keys::generate;
use crate::testing::{Browser, app_with, config, owner, project};
use crate::{connections, ids, usage};

const TOKEN: &str = "edge-role-token";

async fn app() -> App {
    app_with(config(&["--edge-token", TOKEN])).await
}

async fn send(app: &App, report: &Value) -> StatusCode {
    let request = Request::post("/internal/edge/reports")
        .header(header::HOST, "127.0.0.1:8081")
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(report.to_string()))
        .unwrap();
    let router = crate::server::router(app);
    router.oneshot(request).await.unwrap().status()
}

fn milliseconds(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap()
}

fn report(key: &Value) -> Value {
    json!({ "edge": key["kid"], "key": key, "instances": [], "calls": [], "steps": [], "dropped": 0 })
}

#[tokio::test]
async fn an_edges_key_is_published_beside_the_signing_keys_and_never_given_to_edges() {
    let app = app().await;
    let (key, _, _) = generate().unwrap();
    assert_eq!(send(&app, &report(&key)).await, StatusCode::NO_CONTENT);

    let published = Browser::new(&app).get("/oauth/keys").await.value();
    let kids: Vec<&str> = published["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["kid"].as_str().unwrap())
        .collect();
    assert_eq!(kids.len(), 2);
    assert!(kids.contains(&key["kid"].as_str().unwrap()));

    let mut tx = app.db.begin().await.unwrap();
    let snapshot = crate::routes::snapshot(&mut tx, &app.config, app.clock.now())
        .await
        .unwrap();
    assert_eq!(snapshot.keys, app.keys.jwks(), "signing keys alone");
}

#[tokio::test]
async fn a_key_that_is_not_its_own_is_refused() {
    let app = app().await;
    let (key, _, _) = generate().unwrap();
    let (other, _, _) = generate().unwrap();
    let mut foreign = report(&key);
    foreign["edge"] = other["kid"].clone();
    let mut private = report(&key);
    private["key"]["d"] = json!("AAAA");
    for bad in [foreign, private] {
        assert_eq!(send(&app, &bad).await, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let published = Browser::new(&app).get("/oauth/keys").await.value();
    assert_eq!(published["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn calls_and_steps_are_kept() {
    let app = app().await;
    let hello = project(&app, "hello").await;
    let owner = owner(&app).await;
    let (key, _, _) = generate().unwrap();
    let now = app.clock.now();
    let mut report = report(&key);
    report["calls"] = json!([{
        "project": hello.id, "deployment": ids::new_id(), "grant": null, "api_token": null,
        "at_ms": milliseconds(now), "duration_us": 900, "status": 200,
    }]);
    report["steps"] = json!([
        {
            "project": hello.id, "step": "challenged", "at_ms": milliseconds(now), "count": 2,
            "address": "2001:db8::7", "user_agent": "client/1\u{0}", "client_id": null, "user": null,
        },
        {
            "project": hello.id, "step": "called", "at_ms": milliseconds(now + Duration::SECOND),
            "count": 1, "address": "2001:db8::7", "user_agent": "client/1\u{0}",
            "client_id": "c1", "user": owner.id,
        },
        // Deleted since, or no address: left out, and no harm to the others.
        {
            "project": ids::new_id(), "step": "called", "at_ms": milliseconds(now), "count": 1,
            "address": "192.0.2.1", "user_agent": null, "client_id": null, "user": null,
        },
        {
            "project": hello.id, "step": "called", "at_ms": milliseconds(now), "count": 1,
            "address": "nowhere", "user_agent": null, "client_id": null, "user": null,
        },
    ]);
    assert_eq!(send(&app, &report).await, StatusCode::NO_CONTENT);
    let mut db = app.db.acquire().await.unwrap();
    let used = usage::since(&mut db, hello.id, now).await.unwrap();
    assert_eq!((used.calls, used.errors), (1, 0));
    let attempts = connections::list(&mut db, hello.id, now).await.unwrap();
    assert_eq!(attempts.len(), 1, "{attempts:#?}");
    assert_eq!(attempts[0].standing, connections::Standing::Connected);
    assert_eq!(attempts[0].user.as_deref(), Some(owner.email.as_str()));
    assert_eq!(attempts[0].client, "client/1 ");
    let counts: Vec<i32> = attempts[0].events.iter().map(|event| event.count).collect();
    assert_eq!(counts, [2, 1]);
}

#[tokio::test]
async fn a_large_report_is_taken_and_says_which_snapshot_is_in_use() {
    let app = app().await;
    let (key, _, _) = generate().unwrap();
    let mut report = report(&key);
    report["version"] = json!(7);
    report["later"] = json!("x".repeat(4 << 20));
    assert_eq!(send(&app, &report).await, StatusCode::NO_CONTENT);
    let mut db = app.db.acquire().await.unwrap();
    let in_use = crate::edges::oldest_in_use(&mut db, app.clock.now())
        .await
        .unwrap();
    assert_eq!(in_use, Some(7));
}

#[tokio::test]
async fn a_report_that_comes_again_counts_once() {
    let app = app().await;
    let hello = project(&app, "hello").await;
    let (key, _, _) = generate().unwrap();
    let now = app.clock.now();
    let mut report = report(&key);
    report["calls"] = json!([{
        "project": hello.id, "deployment": ids::new_id(), "grant": null, "api_token": null,
        "at_ms": milliseconds(now), "duration_us": 900, "status": 200,
    }]);
    report["steps"] = json!([{
        "project": hello.id, "step": "challenged", "at_ms": milliseconds(now), "count": 1,
        "address": "192.0.2.1", "user_agent": null, "client_id": null, "user": null,
    }]);
    let (run, later_run) = (ids::new_id(), ids::new_id());
    let id = |run: uuid::Uuid, number: i64| json!({ "run": run, "number": number });
    let mut counts = Vec::new();
    for id in [
        id(run, 1),
        id(run, 1),
        id(run, 2),
        // Held up on its way until a later one was taken.
        id(run, 1),
        // The edge started anew.
        id(later_run, 1),
        id(later_run, 1),
        // Of an edge that names none.
        Value::Null,
        Value::Null,
    ] {
        report["id"] = id;
        assert_eq!(send(&app, &report).await, StatusCode::NO_CONTENT);
        let mut db = app.db.acquire().await.unwrap();
        let used = usage::since(&mut db, hello.id, now).await.unwrap();
        let attempts = connections::list(&mut db, hello.id, now).await.unwrap();
        counts.push((used.calls, attempts[0].events[0].count));
    }
    assert_eq!(
        counts,
        [1, 1, 2, 2, 3, 3, 4, 5].map(|count| (i64::from(count), count))
    );
    // Both at once: the edge gave up waiting and tried again.
    report["id"] = id(later_run, 2);
    let all = futures_util::future::join_all((0..8).map(|_| send(&app, &report))).await;
    assert_eq!(all, [StatusCode::NO_CONTENT; 8]);
    let mut db = app.db.acquire().await.unwrap();
    let used = usage::since(&mut db, hello.id, now).await.unwrap();
    assert_eq!(used.calls, 6);
}
