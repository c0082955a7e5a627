//! Questions and answers, through the API and as runners see them.

use http::{Method, StatusCode};
use runner::protocol::Plan;
use serde_json::{Value, json};

use super::*;
use crate::runners::{self, Presence};
use crate::testing::{Browser, app, owner, stranger};

async fn runner(db: &mut PgConnection, now: OffsetDateTime) -> Uuid {
    let id = ids::new_id();
    let presence = Presence {
        id,
        sequence: 1,
        name: "one",
        public_key: "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        images: &[],
    };
    runners::saw(db, &presence, now).await.unwrap();
    id
}

fn answer_to(id: Uuid) -> PlanAnswer {
    PlanAnswer {
        id,
        commit: None,
        plan: Some(Plan {
            runtime: "python:3.11".into(),
            entrypoint: "main.py".into(),
            dependencies: "requirements.txt".into(),
            reasons: vec!["Because.".into()],
            ..Plan::default()
        }),
        diagnosis: None,
    }
}

#[tokio::test]
async fn a_question_is_answered_once_and_to_who_asked() {
    let app = app().await;
    let now = app.clock.now();
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    let question =
        json!({"source_url": "https://example.com/a.git", "build": {"root_directory": "srv"}});
    let asked = browser.api(Method::POST, "/plans", &question).await;
    assert_eq!(asked.status, StatusCode::CREATED, "{}", asked.body);
    assert_eq!(asked.value()["state"], "planning");
    let id: Uuid = asked.value()["id"].as_str().unwrap().parse().unwrap();
    let mut db = app.db.acquire().await.unwrap();
    let (one, two) = (runner(&mut db, now).await, runner(&mut db, now).await);
    let requests = claim(&mut db, one, now).await.unwrap();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].build.root_directory.as_deref(), Some("srv"));
    assert_eq!(
        claim(&mut db, one, now).await.unwrap(),
        requests,
        "asked until it is answered"
    );
    assert!(claim(&mut db, two, now).await.unwrap().is_empty());
    let later = now + ABANDONED + Duration::seconds(1);
    assert_eq!(
        claim(&mut db, two, later).await.unwrap().len(),
        1,
        "the other one takes over"
    );
    answer(&mut db, &answer_to(id), now).await.unwrap();
    let mut late = answer_to(id);
    late.plan = None;
    answer(&mut db, &late, now).await.unwrap();
    assert!(claim(&mut db, two, later).await.unwrap().is_empty());
    let path = format!("/plans/{id}");
    let seen = browser.api(Method::GET, &path, &Value::Null).await.value();
    assert_eq!(
        (&seen["state"], &seen["plan"]["entrypoint"]),
        (&json!("done"), &json!("main.py"))
    );
    let mut other = Browser::with_token(&app, &stranger(&app).await).await;
    let answer = other.api(Method::GET, &path, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    purge(&mut db, now + KEPT + Duration::seconds(1))
        .await
        .unwrap();
    let gone = browser.api(Method::GET, &path, &Value::Null).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn questions_are_checked_and_few_at_once() {
    let app = app().await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    for bad in [
        json!({}),
        json!({"source_url": "ext::sh -c id"}),
        json!({"source_url": "https://user:pw@example.com/a"}),
        json!({"source_url": "https://example.com/a", "build": {"root_directory": "../x"}}),
        json!({"source_url": "https://example.com/a", "entrypoint": "/etc/passwd"}),
    ] {
        let answer = browser.api(Method::POST, "/plans", &bad).await;
        assert!(answer.status.is_client_error(), "{bad}: {}", answer.body);
    }
    let good = json!({"source_url": "https://example.com/a"});
    for _ in 0..MAX_OPEN {
        let answer = browser.api(Method::POST, "/plans", &good).await;
        assert_eq!(answer.status, StatusCode::CREATED);
    }
    let answer = browser.api(Method::POST, "/plans", &good).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn the_page_shows_the_plan_and_creates_nothing() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app).await;
    let csrf = browser.get("/new").await.field("csrf");
    let answering = {
        let app = app.clone();
        async move {
            let mut db = app.db.acquire().await.unwrap();
            let now = app.clock.now();
            let it = runner(&mut db, now).await;
            loop {
                if let Some(request) = claim(&mut db, it, now).await.unwrap().first() {
                    answer(&mut db, &answer_to(request.id), now).await.unwrap();
                    return;
                }
                tokio::task::yield_now().await;
            }
        }
    };
    let fields = [
        ("csrf", &*csrf),
        ("source_url", "https://example.com/my-server.git"),
    ];
    let asking = browser.submit("/new/plan", &fields);
    let (page, ()) = tokio::join!(asking, answering);
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    assert!(page.body.contains("What would be built") && page.body.contains("Because."));
    assert!(
        page.body.contains("value=\"my-server\""),
        "the form stays, with a name"
    );
    let mut db = app.db.acquire().await.unwrap();
    let user = owner(&app).await;
    assert!(
        crate::projects::list_for(&mut db, user.id)
            .await
            .unwrap()
            .is_empty()
    );
}
