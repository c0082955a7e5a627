//! Which pushes are deployed.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use time::Duration;

use super::inbox::{commits, inbox, project, push, tell, work};
use super::rounds::problem;
use super::stand_in::{World, sha, with_app};
use crate::app::App;
use crate::github::links::{self, Link};
use crate::github::worker;
use crate::projects::Project;
use crate::testing::{self, Answer, Browser};

async fn link(app: &App, project: &Project) -> Link {
    let mut db = app.db.acquire().await.unwrap();
    links::find(&mut db, project.id).await.unwrap().unwrap()
}

/// Changes the project `demo` through the API.
async fn change(app: &App, body: Value) -> Answer {
    let mut api = Browser::with_token(app, &testing::owner(app).await).await;
    api.api(Method::PATCH, "/projects/demo", &body).await
}

/// A push, as GitHub tells of it; what came of it.
async fn pushed(app: &App, world: &World, head: &str) -> String {
    world.push(11, "main", head);
    tell(app, "push", &push("main", head)).await;
    work(app).await;
    let (state, outcome) = inbox(app).await.pop().unwrap();
    assert_eq!(state, "done", "{outcome}");
    outcome
}

async fn page(app: &App) -> String {
    let mut browser = Browser::signed_in(app).await;
    browser.get("/projects/demo").await.body
}

#[tokio::test]
async fn what_changes_nothing_that_is_watched_is_not_deployed_until_something_does() {
    let (app, world) = with_app(&[]).await;
    let demo = project(&app).await;
    let rules = json!({ "watch_paths": ["services/a/"], "ignored_paths": ["*.md"] });
    let changed = change(&app, rules).await.value();
    assert_eq!(changed["watch_paths"], json!(["services/a/"]));
    let (a, b, c, d) = (sha('a'), sha('b'), sha('c'), sha('d'));
    world.change(&a, &b, &["docs/x", "services/a/README.md"]);
    let said = pushed(&app, &world, &b).await;
    let why = "what it changes under services/a/ is ignored: *.md";
    assert_eq!(said, format!("bbbbbbbbbbbb was not deployed: {why}."));
    assert_eq!(commits(&app, &demo).await, [sha('a')]);
    let shown = page(&app).await;
    assert!(shown.contains("was not deployed"), "{shown}");
    assert!(shown.contains("Deploy anyway"), "{shown}");

    // The clock finds the same, and asks nobody again.
    let compared = world.count("compare/");
    app.clock.advance(Duration::minutes(5));
    worker::compare(&app).await.unwrap();
    assert_eq!(world.count("compare/"), compared);
    assert_eq!(link(&app, &demo).await.skipped, Some(sha('b')));

    // The next push counts with the one that was skipped.
    world.change(&a, &c, &["docs/x", "services/a/server.py"]);
    pushed(&app, &world, &c).await;
    assert_eq!(commits(&app, &demo).await, [sha('c'), sha('a')]);
    assert_eq!(world.count(&format!("compare/{b}")), 0);
    assert_eq!(link(&app, &demo).await.skipped, None);
    assert!(!page(&app).await.contains("was not deployed"));

    // What failed is no base: the fault may be mended by what is not watched.
    sqlx::query("update deployments set state = 'failed' where source->>'commit' = $1")
        .bind(&c)
        .execute(&app.db)
        .await
        .unwrap();
    sqlx::query("update deployments set state = 'live' where number = 1")
        .execute(&app.db)
        .await
        .unwrap();
    world.change(&c, &d, &["docs/y"]);
    world.change(&a, &d, &["docs/y", "services/a/server.py"]);
    pushed(&app, &world, &d).await;
    assert_eq!(commits(&app, &demo).await[0], d);
}

#[tokio::test]
async fn what_was_skipped_is_looked_at_anew_once_its_base_failed() {
    let (app, world) = with_app(&[]).await;
    let demo = project(&app).await;
    change(&app, json!({ "watch_paths": ["/*.py"] }))
        .await
        .value();
    let set = async |commit: &str, state: &str| {
        sqlx::query(
            "update deployments set state = $2, finished_at = $3 where source->>'commit' = $1",
        )
        .bind(commit)
        .bind(state)
        .bind((state == "failed").then(|| app.clock.now()))
        .execute(&app.db)
        .await
        .unwrap();
    };
    let (a, b, c) = (sha('a'), sha('b'), sha('c'));
    set(&a, "live").await;
    world.change(&a, &b, &["server.py"]);
    pushed(&app, &world, &b).await;
    set(&b, "building").await;
    world.change(&b, &c, &["docs/x"]);
    pushed(&app, &world, &c).await;
    assert_eq!(link(&app, &demo).await.skipped, Some(sha('c')));

    // The code that it came with is not live.
    app.clock.advance(Duration::minutes(1));
    set(&b, "failed").await;
    world.change(&a, &c, &["server.py", "docs/x"]);
    app.clock.advance(Duration::minutes(5));
    worker::compare(&app).await.unwrap();
    assert_eq!(commits(&app, &demo).await[0], c);
}

#[tokio::test]
async fn what_was_skipped_is_deployed_by_hand_and_then_known() {
    let (app, world) = with_app(&[]).await;
    let demo = project(&app).await;
    change(&app, json!({ "watch_paths": ["/server.py"] })).await;
    world.change(&sha('a'), &sha('b'), &["docs/x"]);
    pushed(&app, &world, &sha('b')).await;
    let mut browser = Browser::signed_in(&app).await;
    let csrf = browser.get("/projects/demo").await.field("csrf");
    let fields = [("csrf", &*csrf), ("reference", &*sha('b'))];
    let made = browser.submit("/projects/demo/deploy", &fields).await;
    assert_eq!(made.location(), "/projects/demo/deployments/2");
    assert_eq!(commits(&app, &demo).await, [sha('b'), sha('a')]);
    assert!(!page(&app).await.contains("was not deployed"));
    app.clock.advance(Duration::minutes(5));
    worker::compare(&app).await.unwrap();
    let link = link(&app, &demo).await;
    assert_eq!((link.head, link.skipped), (Some(sha('b')), None));
    assert_eq!(commits(&app, &demo).await.len(), 2);
}

#[tokio::test]
async fn an_older_commit_that_was_deployed_by_hand_stays_until_the_next_push() {
    let (app, world) = with_app(&[]).await;
    let demo = project(&app).await;
    change(&app, json!({ "watch_paths": ["/server.py"] })).await;
    world.change(&sha('a'), &sha('b'), &["docs/x"]);
    pushed(&app, &world, &sha('b')).await;
    world.say(&sha('9'), "Long ago");
    let mut api = Browser::with_token(&app, &testing::owner(&app).await).await;
    let body = json!({ "commit": sha('9') });
    api.api(Method::POST, "/projects/demo/deployments", &body)
        .await;
    world.change(&sha('9'), &sha('b'), &["server.py"]);
    app.clock.advance(Duration::minutes(5));
    worker::compare(&app).await.unwrap();
    assert_eq!(commits(&app, &demo).await[0], sha('9'));
}

#[tokio::test]
async fn other_rules_are_applied_to_what_was_skipped_at_once() {
    let (app, world) = with_app(&[]).await;
    let demo = project(&app).await;
    change(&app, json!({ "watch_paths": ["/server.py"] })).await;
    world.change(&sha('a'), &sha('b'), &["docs/x"]);
    pushed(&app, &world, &sha('b')).await;
    let changed = change(&app, json!({ "watch_paths": ["/server.py", "docs/"] })).await;
    assert_eq!(changed.value()["github"]["skipped"], Value::Null);
    assert_eq!(commits(&app, &demo).await, [sha('b'), sha('a')]);
}

#[tokio::test]
async fn a_commit_that_says_so_is_not_deployed() {
    let (app, world) = with_app(&[]).await;
    let demo = project(&app).await;
    world.say(&sha('b'), "Fix a comment\n\n[skip ci]");
    let said = pushed(&app, &world, &sha('b')).await;
    assert_eq!(
        said,
        "bbbbbbbbbbbb was not deployed: its message says [skip ci]."
    );
    assert_eq!(commits(&app, &demo).await, [sha('a')]);
    pushed(&app, &world, &sha('c')).await;
    assert_eq!(commits(&app, &demo).await, [sha('c'), sha('a')]);
    assert_eq!(world.count("compare/"), 0, "there are no paths to look at");
}

#[tokio::test]
async fn what_cannot_be_compared_is_deployed() {
    let (app, world) = with_app(&[]).await;
    let demo = project(&app).await;
    change(&app, json!({ "watch_paths": ["/server.py"] })).await;
    // What was deployed is unknown at GitHub.
    pushed(&app, &world, &sha('b')).await;
    // After a force-push.
    let range = format!("{}...{}", sha('b'), sha('c'));
    let diverged = ("diverged", vec!["docs/x".to_owned()]);
    world.changes.lock().unwrap().insert(range, diverged);
    pushed(&app, &world, &sha('c')).await;
    // GitHub does not manage to compare.
    *world.away.lock().unwrap() = Some("compare/".into());
    pushed(&app, &world, &sha('d')).await;
    let all = [sha('d'), sha('c'), sha('b'), sha('a')];
    assert_eq!(commits(&app, &demo).await, all);
}

#[tokio::test]
async fn another_branch_is_looked_at_at_once() {
    let (app, world) = with_app(&[]).await;
    let demo = project(&app).await;
    world.push(11, "next", &sha('e'));
    let mut browser = Browser::signed_in(&app).await;
    let form = browser.get("/projects/demo/github").await;
    assert!(
        form.body.contains("<option value=\"next\">"),
        "{}",
        form.body
    );
    let csrf = form.field("csrf");
    let fields = [
        ("csrf", &*csrf),
        ("source_branch", "next"),
        ("auto_promote", "yes"),
    ];
    let saved = browser.submit("/projects/demo/github", &fields).await;
    assert_eq!(saved.location(), "/projects/demo/github?done=saved");
    assert_eq!(commits(&app, &demo).await, [sha('e'), sha('a')]);
    // Back again: what was deployed of it long ago is not what is live.
    change(&app, json!({ "source_branch": "main" })).await;
    assert_eq!(commits(&app, &demo).await[0], sha('a'));
    change(&app, json!({ "source_branch": "gone" })).await;
    assert!(problem(&app, &demo).await.unwrap().contains("gone is gone"));
}

#[tokio::test]
async fn rules_that_cannot_be_are_refused_beside_their_field() {
    let (app, _world) = with_app(&[]).await;
    project(&app).await;
    let refused = change(&app, json!({ "watch_paths": ["a["] })).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.value()["errors"][0]["field"], "watch_paths");
    let mut browser = Browser::signed_in(&app).await;
    let csrf = browser.get("/projects/demo/github").await.field("csrf");
    let fields = [
        ("csrf", &*csrf),
        ("source_branch", "main"),
        ("watch_paths", "docs/\n<b>[\n"),
    ];
    let refused = browser.submit("/projects/demo/github", &fields).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body.contains("no pattern"), "{}", refused.body);
    assert!(!refused.body.contains("<b>["), "{}", refused.body);
}

#[tokio::test]
async fn a_github_that_is_away_is_told_once_it_lasts() {
    let (app, world) = with_app(&[]).await;
    let demo = project(&app).await;
    *world.away.lock().unwrap() = Some("repos/".into());
    let said = |body: &str| body.contains("GitHub could not be reached since");
    for round in 0..3 {
        app.clock.advance(Duration::minutes(5));
        worker::compare(&app).await.unwrap();
        assert_eq!(said(&page(&app).await), round == 2, "round {round}");
    }
    assert_eq!(problem(&app, &demo).await, None, "no fault of the project");
    *world.away.lock().unwrap() = None;
    app.clock.advance(Duration::minutes(5));
    worker::compare(&app).await.unwrap();
    assert!(!said(&page(&app).await));
    assert_eq!(link(&app, &demo).await.failing_since, None);
}
