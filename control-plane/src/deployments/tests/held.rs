//! What would break callers waits for a member, if the project wants that.

use runner::protocol::{Commit, HostHeader, Phase, Report, Surface};
use serde_json::json;

use super::{DRAIN, Runner, here, queued, states, with_source};
use crate::app::App;
use crate::audit::Actor;
use crate::branch_rules::{self, Rules};
use crate::deployments::{self, Deployment, State};
use crate::projects::{self, Project, Settings};
use crate::testing::{Browser, app};
use crate::variables::{self, Change, NewVariable};

/// It answers with these tools.
async fn answers(app: &App, runner: &Runner<'_>, it: &Deployment, tools: &[&str]) {
    let report = Report {
        deployment: it.id,
        phase: Phase::Healthy,
        commit: Some(Commit {
            id: "a".repeat(40),
            subject: None,
            author: None,
        }),
        upstream: Some("10.0.0.1:1".into()),
        host_header: HostHeader::Public,
        plan: None,
        lock: None,
        surface: Some(Surface {
            tools: tools.iter().map(|name| json!({ "name": name })).collect(),
            ..Surface::default()
        }),
        diagnosis: None,
        timings: Vec::new(),
    };
    let mut tx = app.db.begin().await.unwrap();
    deployments::take_report(&mut tx, runner.id, &report, DRAIN, app.clock.now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

/// A project that holds, live with one tool.
async fn guarded(app: &App) -> (Project, Runner<'_>) {
    let hello = with_source(app, "hello").await;
    let settings = Settings {
        source_url: hello.source_url.clone(),
        hold_breaking: true,
        ..Settings::default()
    };
    let mut db = app.db.acquire().await.unwrap();
    let hello = projects::change(&mut db, &hello, &settings, &Actor::System, app.clock.now())
        .await
        .unwrap();
    let runner = Runner::new(app);
    next(app, &hello, &runner, &["add"]).await;
    (hello, runner)
}

/// Another deployment, up to its answer.
async fn next(app: &App, project: &Project, runner: &Runner<'_>, tools: &[&str]) -> Deployment {
    let it = queued(app, project).await;
    runner.claim(true).await;
    answers(app, runner, &it, tools).await;
    it
}

async fn promote(app: &App, project: &Project, it: &Deployment) -> crate::error::Result<State> {
    let mut tx = app.db.begin().await.unwrap();
    let it = deployments::get(&mut tx, project.id, &it.number.to_string()).await?;
    let done = deployments::promote(
        &mut tx,
        project,
        &it,
        DRAIN,
        &Actor::System,
        app.clock.now(),
    )
    .await?;
    tx.commit().await.unwrap();
    Ok(done.state)
}

async fn only_states(app: &App, project: &Project) -> Vec<State> {
    let all = states(app, project).await;
    all.into_iter().map(|(_, state, _)| state).collect()
}

#[tokio::test]
async fn what_breaks_waits_until_it_is_promoted() {
    let app = app().await;
    let (hello, runner) = guarded(&app).await;
    let wider = next(&app, &hello, &runner, &["add", "sub"]).await;
    assert_eq!(only_states(&app, &hello).await[1], State::Live);
    let narrower = next(&app, &hello, &runner, &["add"]).await;
    // It says so with every sync, and waits all the same.
    answers(&app, &runner, &narrower, &["add"]).await;
    assert_eq!(
        states(&app, &hello).await[1..],
        [
            here(2, State::Live, "10.0.0.1:1"),
            here(3, State::Held, "10.0.0.1:1")
        ]
    );
    assert_eq!(promote(&app, &hello, &narrower).await.unwrap(), State::Live);
    assert_eq!(
        only_states(&app, &hello).await[1..],
        [State::Draining, State::Live]
    );
    assert!(
        promote(&app, &hello, &narrower).await.is_err(),
        "live already"
    );
    let mut db = app.db.acquire().await.unwrap();
    let before = deployments::get(&mut db, hello.id, "3").await.unwrap();
    let before = deployments::find_before(&mut db, &before).await.unwrap();
    assert_eq!(before.unwrap().id, wider.id, "what it replaced");
}

#[tokio::test]
async fn a_newer_one_takes_the_turn_of_what_is_held() {
    let app = app().await;
    let (hello, runner) = guarded(&app).await;
    let first = next(&app, &hello, &runner, &[]).await;
    next(&app, &hello, &runner, &["other"]).await;
    assert_eq!(
        only_states(&app, &hello).await,
        [State::Live, State::Canceled, State::Held]
    );
    next(&app, &hello, &runner, &["add", "more"]).await;
    assert_eq!(
        only_states(&app, &hello).await[1..],
        [State::Canceled, State::Canceled, State::Live]
    );
    // What was canceled can only be deployed again.
    assert_eq!(promote(&app, &hello, &first).await.unwrap(), State::Queued);
}

#[tokio::test]
async fn a_restart_for_variables_leaves_what_is_held_alone_and_promotable() {
    let app = app().await;
    let (hello, runner) = guarded(&app).await;
    let held = next(&app, &hello, &runner, &[]).await;
    let change = Change {
        set: vec![NewVariable {
            name: "A".into(),
            value: "1".into(),
            secret: false,
        }],
        ..Change::default()
    };
    let mut tx = app.db.begin().await.unwrap();
    let changed = variables::change(&mut tx, &hello, &change, &Actor::System, app.clock.now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(changed.restart, Some(3));
    let mut db = app.db.acquire().await.unwrap();
    let restart = deployments::get(&mut db, hello.id, "3").await.unwrap();
    drop(db);
    answers(&app, &runner, &restart, &["add"]).await;
    assert_eq!(
        only_states(&app, &hello).await,
        [State::Draining, State::Held, State::Live]
    );
    assert_eq!(promote(&app, &hello, &held).await.unwrap(), State::Live);
    let mut db = app.db.acquire().await.unwrap();
    let fourth = deployments::get(&mut db, hello.id, "4").await.unwrap();
    assert_eq!(
        (fourth.origin.as_str(), fourth.build()),
        ("variables", held.id),
        "it gets the newest values"
    );
}

#[tokio::test]
async fn what_is_held_can_be_taken_back_and_a_roll_back_is_never_held() {
    let app = app().await;
    let (hello, runner) = guarded(&app).await;
    next(&app, &hello, &runner, &["add", "sub"]).await;
    let held = next(&app, &hello, &runner, &[]).await;
    let mut tx = app.db.begin().await.unwrap();
    let held = deployments::get(&mut tx, hello.id, &held.number.to_string())
        .await
        .unwrap();
    deployments::cancel(&mut tx, &hello, &held, &Actor::System, app.clock.now())
        .await
        .unwrap();
    let back = deployments::roll_back(&mut tx, &hello, &Actor::System, app.clock.now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    runner.claim(true).await;
    answers(&app, &runner, &back, &["add"]).await;
    assert_eq!(
        only_states(&app, &hello).await[2..],
        [State::Canceled, State::Live]
    );
}

#[tokio::test]
async fn what_pushes_bring_waits_where_the_project_wants_that() {
    let app = app().await;
    let hello = with_source(&app, "hello").await;
    let rules = Rules {
        auto_promote: false,
        ..Rules::default()
    };
    let (actor, now) = (Actor::System, app.clock.now());
    let mut db = app.db.acquire().await.unwrap();
    branch_rules::set(&mut db, &hello, &rules, &actor, now)
        .await
        .unwrap();
    let runner = Runner::new(&app);
    next(&app, &hello, &runner, &["add"]).await;
    assert_eq!(only_states(&app, &hello).await, [State::Live], "by hand");
    let request = deployments::Request::default();
    let pushed = deployments::queue(&mut db, &hello, request, "push", &Actor::GitHub, now)
        .await
        .unwrap();
    runner.claim(true).await;
    answers(&app, &runner, &pushed, &["add", "sub"]).await;
    assert_eq!(
        only_states(&app, &hello).await,
        [State::Live, State::Held],
        "though it breaks nobody"
    );
    let held = deployments::get(&mut db, hello.id, "2").await.unwrap();
    assert_eq!(held.held_for.as_deref(), Some("promotion"));
    assert_eq!(promote(&app, &hello, &pushed).await.unwrap(), State::Live);
    drop(db);
    let mut browser = Browser::signed_in(&app).await;
    next(&app, &hello, &runner, &["add", "sub"]).await;
    assert_eq!(only_states(&app, &hello).await[2], State::Live);
    sqlx::query("update deployments set state = 'held' where number = 2")
        .execute(&app.db)
        .await
        .unwrap();
    let page = browser.get("/projects/hello/deployments/2").await.body;
    assert!(page.contains("Held: it waits for a member."), "{page}");
    let page = browser.get("/projects/hello").await.body;
    assert!(page.contains("promoted by hand"), "{page}");
}

#[tokio::test]
async fn what_would_break_callers_says_so_also_where_pushes_wait() {
    let app = app().await;
    let (hello, runner) = guarded(&app).await;
    let held = next(&app, &hello, &runner, &[]).await;
    let mut db = app.db.acquire().await.unwrap();
    let held = deployments::get(&mut db, hello.id, &held.number.to_string())
        .await
        .unwrap();
    assert_eq!(held.held_for.as_deref(), Some("breaking"));
}
