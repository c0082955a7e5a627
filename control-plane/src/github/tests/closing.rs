//! Previews that stay closed while their pull requests are open: a member closed them, or the head's
//! message says so.

use http::{Method, StatusCode};
use serde_json::Value;

use super::inbox::{inbox, project, tell, work};
use super::previews::{find, happen, live, newest, route, runs, state, told};
use super::stand_in::{World, sha, with_app};
use crate::app::App;
use crate::deployments::State;
use crate::github::pull_requests;
use crate::organizations::Role;
use crate::projects::Project;
use crate::testing::{self, Answer, Browser};

async fn post(browser: &mut Browser, slug: &str, verb: &str) -> Answer {
    let path = format!("/projects/demo/previews/{slug}/{verb}");
    browser.api(Method::POST, &path, &Value::Null).await
}

/// Compares; what was asked singly.
async fn compared(app: &App, world: &World, project: &Project) -> Vec<String> {
    world.asked.lock().unwrap().clear();
    pull_requests::compare(app, project.id).await.unwrap();
    let mut asked = world.asked.lock().unwrap().clone();
    asked.retain(|path| path.contains("/pulls/") || path.contains("/commits/"));
    asked
}

#[tokio::test]
async fn a_preview_that_a_member_closes_stays_so_until_the_next_commit() {
    let (app, world) = with_app(&["--previews-per-project", "1"]).await;
    let project = project(&app).await;
    world.pull(1, &sha('b'));
    happen(&app, "opened", 1).await;
    let (preview, _) = live(&app, &project, "pr-1").await;
    world.pull(2, &sha('c'));
    happen(&app, "opened", 2).await;
    assert_eq!(state(&app, &project, "pr-2").await, "crowded");

    let viewer = testing::member(&app, Role::Viewer).await;
    let mut viewer = Browser::with_token(&app, &viewer).await;
    let refused = post(&mut viewer, "pr-1", "close").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    let mut owner = Browser::with_token(&app, &testing::owner(&app).await).await;
    let closed = post(&mut owner, "pr-1", "close").await;
    assert_eq!(closed.status, StatusCode::OK, "{}", closed.body);
    let closed = closed.value();
    assert_eq!(
        (&closed["state"], &closed["asleep"]),
        (&"closed".into(), &false.into())
    );
    assert!(closed["about"].as_str().unwrap().contains("next commit"));
    assert_eq!(newest(&app, &project, &preview).await.state, State::Stopped);
    assert!(route(&app, "demo--pr-1.localhost").await.is_none());
    assert_eq!(
        state(&app, &project, "pr-2").await,
        "open",
        "the place is free"
    );
    let by: String = sqlx::query_scalar(
        "select actor from audit_log where action = 'preview.close' order by at desc limit 1",
    )
    .fetch_one(&app.db)
    .await
    .unwrap();
    assert!(by.starts_with("token:"), "{by}");
    for verb in ["close", "deploy"] {
        let again = post(&mut owner, "pr-1", verb).await;
        assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.body);
    }

    // The same head does not open it, and nobody is asked about it.
    happen(&app, "synchronize", 1).await;
    let none: [String; 0] = [];
    assert_eq!(compared(&app, &world, &project).await, none);
    assert_eq!(state(&app, &project, "pr-1").await, "closed");
    world.pull(1, &sha('d'));
    happen(&app, "synchronize", 1).await;
    assert_eq!(state(&app, &project, "pr-1").await, "crowded");

    let mut browser = Browser::signed_in(&app).await;
    let page = browser.get("/projects/demo").await;
    let address = "/projects/demo/previews/pr-2/close";
    assert!(page.body.contains(address), "{}", page.body);
    let csrf = page.field("csrf");
    let gone = browser.submit(address, &[("csrf", &csrf)]).await;
    assert_eq!(gone.location(), "/projects/demo?done=closed");
    assert_eq!(state(&app, &project, "pr-2").await, "closed");
    assert_eq!(state(&app, &project, "pr-1").await, "open");
    assert_eq!(runs(&app, &project).await.pop().unwrap().1, sha('d'));
}

#[tokio::test]
async fn reopening_the_pull_request_opens_what_a_member_closed() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    let mut owner = Browser::with_token(&app, &testing::owner(&app).await).await;
    world.pull(1, &sha('b'));
    happen(&app, "opened", 1).await;
    let mut close = async || {
        let closed = post(&mut owner, "pr-1", "close").await;
        assert_eq!(closed.status, StatusCode::OK, "{}", closed.body);
    };
    close().await;
    // Told at once, so that only the later of the two is looked at.
    tell(&app, "pull_request", &told("closed", 1)).await;
    tell(&app, "pull_request", &told("reopened", 1)).await;
    work(&app).await;
    assert_eq!(state(&app, &project, "pr-1").await, "open");
    // Told by nobody.
    close().await;
    world.close_pull(1);
    assert_eq!(compared(&app, &world, &project).await.len(), 1);
    assert!(!find(&app, &project, "pr-1").await.stays_closed);
    world.pull(1, &sha('b'));
    compared(&app, &world, &project).await;
    assert_eq!(state(&app, &project, "pr-1").await, "open");
}

#[tokio::test]
async fn a_head_whose_message_says_so_opens_and_refreshes_no_preview() {
    let (app, world) = with_app(&["--previews-per-project", "1"]).await;
    let project = project(&app).await;
    world.say(&sha('b'), "Try something [skip ci]");
    world.say(&sha('d'), "Explain it\n\nskip-checks: true");
    world.pull(1, &sha('b'));
    happen(&app, "opened", 1).await;
    assert_eq!(state(&app, &project, "pr-1").await, "closed");
    let said = inbox(&app).await.pop().unwrap();
    assert!(said.1.contains("stays as it is"), "{}", said.1);
    let none: [String; 0] = [];
    assert_eq!(compared(&app, &world, &project).await, none, "asked once");
    world.pull(1, &sha('c'));
    happen(&app, "synchronize", 1).await;
    live(&app, &project, "pr-1").await;

    world.pull(1, &sha('d'));
    happen(&app, "synchronize", 1).await;
    assert_eq!(compared(&app, &world, &project).await, none, "asked once");
    let served = ("pr-1".to_owned(), sha('c'), State::Live);
    assert_eq!(runs(&app, &project).await, [served]);
    // Whoever deploys by hand has decided.
    let mut owner = Browser::with_token(&app, &testing::owner(&app).await).await;
    let deployed = post(&mut owner, "pr-1", "deploy").await;
    assert_eq!(deployed.status, StatusCode::CREATED, "{}", deployed.body);
    assert_eq!(runs(&app, &project).await.pop().unwrap().1, sha('d'));

    // What waits for a place does not any more.
    world.pull(2, &sha('e'));
    happen(&app, "opened", 2).await;
    assert_eq!(state(&app, &project, "pr-2").await, "crowded");
    world.pull(2, &sha('b'));
    happen(&app, "synchronize", 2).await;
    assert_eq!(state(&app, &project, "pr-2").await, "closed");
    world.close_pull(1);
    happen(&app, "closed", 1).await;
    world.pull(1, &sha('d'));
    happen(&app, "reopened", 1).await;
    let both = [
        state(&app, &project, "pr-1").await,
        state(&app, &project, "pr-2").await,
    ];
    assert_eq!(both, ["closed", "closed"], "it still says so");

    // Of a fork a member decides.
    world.pull_from(7, &sha('b'), Some(900));
    happen(&app, "opened", 7).await;
    assert_eq!(state(&app, &project, "pr-7").await, "waiting");
}
