//! Webhooks: who is believed, what is kept, and what comes live.

use aws_lc_rs::hmac;
use axum::body::Body;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use time::Duration;
use uuid::Uuid;

use super::stand_in::{INSTALLATION, WEBHOOK_SECRET, sha, with_app};
use crate::app::App;
use crate::crypto::hex;
use crate::deployments::{self, State};
use crate::github::worker;
use crate::github::{deliveries, links};
use crate::projects::{self, Project};
use crate::testing::{Answer, Browser};

fn sign(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("sha256={}", hex(hmac::sign(&key, body).as_ref()))
}

async fn deliver(app: &App, event: &str, id: &str, body: &[u8], signature: &str) -> Answer {
    let headers = [
        ("content-type", "application/json"),
        ("x-github-event", event),
        ("x-github-delivery", id),
        ("x-hub-signature-256", signature),
    ];
    let body = Body::from(body.to_vec());
    Browser::new(app)
        .send(Method::POST, "/webhooks/github", &headers, body)
        .await
}

/// Delivers as GitHub does, under a new id.
async fn tell(app: &App, event: &str, payload: &Value) -> Answer {
    let body = payload.to_string();
    let id = Uuid::new_v4().to_string();
    let signature = sign(WEBHOOK_SECRET, body.as_bytes());
    deliver(app, event, &id, body.as_bytes(), &signature).await
}

fn push(branch: &str, after: &str) -> Value {
    json!({ "ref": format!("refs/heads/{branch}"), "after": after, "deleted": false,
        "repository": { "id": 11, "full_name": "octo/demo" }, "installation": { "id": INSTALLATION } })
}

async fn work(app: &App) {
    while worker::process_next(app).await.unwrap() {}
}

/// Every delivery's state and outcome, oldest first.
async fn inbox(app: &App) -> Vec<(String, String)> {
    let mut db = app.db.acquire().await.unwrap();
    let mut list: Vec<_> = deliveries::list(&mut db, false, 100)
        .await
        .unwrap()
        .into_iter()
        .map(|row| (row.state, row.outcome.unwrap_or_default()))
        .collect();
    list.reverse();
    list
}

/// Connects the installation and makes a project of `octo/demo`, as a person does.
async fn project(app: &App) -> Project {
    let mut browser = Browser::signed_in(app).await;
    let csrf = browser.get("/github").await.field("csrf");
    let away = browser.submit("/github/connect", &[("csrf", &csrf)]).await;
    let state = away.parameter("state").unwrap();
    let back = format!("/github/callback?code=good&state={state}");
    assert_eq!(browser.get(&back).await.location(), "/github?done=saved");
    let page = browser.get("/github").await;
    assert!(page.body.contains("/new?repository=11"), "{}", page.body);
    let form = browser.get("/new?repository=11").await;
    assert!(form.body.contains("octo/demo") && form.body.contains("private"));
    let csrf = form.field("csrf");
    let fields = [("csrf", &*csrf), ("repository", "11"), ("name", "demo")];
    let made = browser.submit("/new", &fields).await;
    assert_eq!(made.location(), "/projects/demo/deployments/1");
    let mut db = app.db.acquire().await.unwrap();
    projects::find_by_name(&mut db, "demo")
        .await
        .unwrap()
        .unwrap()
}

/// Each deployment's commit as asked for, newest first.
async fn commits(app: &App, project: &Project) -> Vec<String> {
    let mut db = app.db.acquire().await.unwrap();
    let all = deployments::list(&mut db, project.id, 100).await.unwrap();
    all.into_iter()
        .map(|it| match it.source {
            runner::protocol::Source::Git { commit, .. } => commit.unwrap_or_default(),
            _ => String::new(),
        })
        .collect()
}

#[tokio::test]
async fn only_a_right_signature_over_the_very_bytes_is_believed() {
    let (app, _world) = with_app(&[]).await;
    let body = push("main", &sha('b')).to_string();
    let right = sign(WEBHOOK_SECRET, body.as_bytes());
    for (signature, says) in [
        (sign("another", body.as_bytes()), "does not fit"),
        (right.replace("sha256=", "sha1="), "not of the form"),
        (right[..70].to_owned(), "not of the form"),
        (String::new(), "not of the form"),
    ] {
        let answer = deliver(&app, "push", "a", body.as_bytes(), &signature).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.value()["error"], "bad_signature");
        assert!(answer.body.contains(says), "{}", answer.body);
    }
    let mut altered = body.clone().into_bytes();
    altered[10] ^= 1;
    let answer = deliver(&app, "push", "a", &altered, &right).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let headers = [
        ("x-github-event", "push"),
        ("x-github-delivery", "a"),
        ("x-hub-signature", "sha1=00"),
    ];
    let answer = Browser::new(&app)
        .send(
            Method::POST,
            "/webhooks/github",
            &headers,
            Body::from(body.clone()),
        )
        .await;
    assert!(answer.body.contains("SHA-1 only"), "{}", answer.body);
    assert!(inbox(&app).await.is_empty());
    let answer = deliver(&app, "push", "a", body.as_bytes(), &right).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let answer = deliver(&app, "push", "a", body.as_bytes(), &right).await;
    assert_eq!(
        (answer.status, &answer.value()["state"]),
        (StatusCode::OK, &json!("known"))
    );
    assert_eq!(inbox(&app).await.len(), 1);
}

#[tokio::test]
async fn bodies_have_a_bound_and_odd_ones_do_no_harm() {
    let (app, _world) = with_app(&[]).await;
    let large = vec![b' '; 25 * 1024 * 1024 + 1];
    let answer = deliver(&app, "push", "large", &large, "sha256=00").await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let deep = "[".repeat(100_000);
    for (id, event, body) in [
        ("deep", "push", deep.as_str()),
        ("none", "push", ""),
        ("list", "push", "[]"),
        (
            "nul",
            "push",
            "{\"ref\":\"refs/heads/a\\u0000b\",\"action\":\"\\u0000\"}",
        ),
        ("odd", "never_heard_of", "{}"),
        ("other", "installation", "{\"installation\":{\"id\":1}}"),
    ] {
        let signature = sign(WEBHOOK_SECRET, body.as_bytes());
        let answer = deliver(&app, event, id, body.as_bytes(), &signature).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{id} {}", answer.body);
    }
    work(&app).await;
    for (state, outcome) in inbox(&app).await {
        assert_eq!(state, "ignored", "{outcome}");
    }
}

#[tokio::test]
async fn a_push_brings_the_branchs_head_live_whatever_the_delivery_says() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    assert_eq!(commits(&app, &project).await, [sha('a')]);
    world.push(11, "main", &sha('b'));
    tell(&app, "push", &push("main", &sha('b'))).await;
    work(&app).await;
    // A replay of the old push under a new id, a push of what is there, and another branch.
    tell(&app, "push", &push("main", &sha('a'))).await;
    tell(&app, "push", &push("main", &sha('b'))).await;
    tell(&app, "push", &push("other", &sha('c'))).await;
    work(&app).await;
    assert_eq!(commits(&app, &project).await, [sha('b'), sha('a')]);
    let mut db = app.db.acquire().await.unwrap();
    let all = deployments::list(&mut db, project.id, 10).await.unwrap();
    assert_eq!(
        (all[0].origin.as_str(), all[0].created_by.as_str()),
        ("push", "github")
    );
    assert_eq!(all[1].state, State::Canceled, "overtaken");
}

#[tokio::test]
async fn fifty_pushes_are_one_look_at_the_branch_and_one_token() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    let before = world.count("/branches/main");
    for _ in 0..50 {
        tell(&app, "push", &push("main", &sha('c'))).await;
    }
    world.push(11, "main", &sha('c'));
    work(&app).await;
    assert_eq!(commits(&app, &project).await, [sha('c'), sha('a')]);
    assert_eq!(world.count("/branches/main") - before, 1);
    assert_eq!(world.count("access_tokens"), 1);
}

#[tokio::test]
async fn another_installations_push_changes_nothing() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    world.push(11, "main", &sha('d'));
    let mut foreign = push("main", &sha('d'));
    foreign["installation"]["id"] = json!(72);
    tell(&app, "push", &foreign).await;
    foreign.as_object_mut().unwrap().remove("installation");
    tell(&app, "push", &foreign).await;
    work(&app).await;
    assert_eq!(commits(&app, &project).await, [sha('a')]);
    assert!(
        inbox(&app)
            .await
            .iter()
            .all(|(state, _)| state == "ignored")
    );
}

#[tokio::test]
async fn trouble_at_github_puts_a_delivery_off_and_loses_nothing() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    world.push(11, "main", &sha('e'));
    tell(&app, "push", &push("main", &sha('e'))).await;
    *world.trouble.lock().unwrap() = Some((502, vec![]));
    work(&app).await;
    assert_eq!(
        inbox(&app).await[0],
        ("waiting".into(), "GitHub answered 502.".into())
    );
    assert!(!worker::process_next(&app).await.unwrap(), "not at once");
    *world.trouble.lock().unwrap() = None;
    app.clock.advance(Duration::seconds(8));
    work(&app).await;
    assert_eq!(commits(&app, &project).await, [sha('e'), sha('a')]);
    assert_eq!(inbox(&app).await[0].0, "done");
}

#[tokio::test]
async fn the_comparison_heals_a_lost_delivery_and_a_new_name() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    world.push(11, "main", &sha('f'));
    worker::compare(&app).await.unwrap();
    assert_eq!(commits(&app, &project).await.len(), 1, "not due yet");
    app.clock.advance(Duration::minutes(5));
    worker::compare(&app).await.unwrap();
    assert_eq!(commits(&app, &project).await, [sha('f'), sha('a')]);
    {
        let mut all = world.repositories.lock().unwrap();
        all.get_mut(&11).unwrap().0 = "octo/renamed".into();
        // Somebody else takes the old name.
        let branches = [("main".to_owned(), sha('9'))].into();
        all.insert(12, ("octo/demo".into(), branches));
    }
    app.clock.advance(Duration::minutes(5));
    worker::compare(&app).await.unwrap();
    let mut db = app.db.acquire().await.unwrap();
    let now = projects::find(&mut db, project.id).await.unwrap().unwrap();
    assert_eq!(now.source_url, Some(app.config.clone_url("octo/renamed")));
    assert_eq!(commits(&app, &project).await, [sha('f'), sha('a')]);
}

#[tokio::test]
async fn a_branch_or_a_repository_that_is_gone_is_said_on_the_projects_page() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    let problem = async || {
        let mut db = app.db.acquire().await.unwrap();
        links::find(&mut db, project.id)
            .await
            .unwrap()
            .unwrap()
            .problem
    };
    let gone = json!({ "ref": "main", "ref_type": "branch", "repository": { "id": 11 },
        "installation": { "id": INSTALLATION } });
    world
        .repositories
        .lock()
        .unwrap()
        .get_mut(&11)
        .unwrap()
        .1
        .clear();
    tell(&app, "delete", &gone).await;
    work(&app).await;
    assert!(problem().await.unwrap().contains("The branch main is gone"));
    let mut browser = Browser::signed_in(&app).await;
    assert!(
        browser
            .get("/projects/demo")
            .await
            .body
            .contains("Pushes do not come live.")
    );
    world.push(11, "main", &sha('a'));
    tell(&app, "create", &gone).await;
    work(&app).await;
    assert_eq!(problem().await, None);
    world.repositories.lock().unwrap().clear();
    let deleted = json!({ "action": "deleted", "repository": { "id": 11 },
        "installation": { "id": INSTALLATION } });
    tell(&app, "repository", &deleted).await;
    work(&app).await;
    assert!(problem().await.unwrap().contains("was deleted"));
    assert_eq!(
        commits(&app, &project).await,
        [sha('a')],
        "what is live stays"
    );
}

#[tokio::test]
async fn who_may_only_read_a_repository_does_not_bring_it_in() {
    let (app, world) = with_app(&[]).await;
    *world.owns.lock().unwrap() = false;
    // Even numbers are those that the person may not write to.
    world.repositories.lock().unwrap().insert(
        12,
        ("octo/secret".into(), [("main".to_owned(), sha('1'))].into()),
    );
    project(&app).await;
    let mut browser = Browser::signed_in(&app).await;
    let page = browser.get("/github").await;
    assert!(!page.body.contains("octo/secret"));
    assert_eq!(
        browser.get("/new?repository=12").await.status,
        StatusCode::NOT_FOUND
    );
    let csrf = page.field("csrf");
    let fields = [("csrf", &*csrf), ("repository", "12"), ("name", "stolen")];
    assert_eq!(
        browser.submit("/new", &fields).await.status,
        StatusCode::NOT_FOUND
    );
    // Nor does the number of an installation, which anyone can write into an address.
    let told =
        format!("/github/installed?installation_id={INSTALLATION}&setup_action=install&state=x");
    assert_eq!(
        browser.get(&told).await.location(),
        "/github?done=installed"
    );
}
