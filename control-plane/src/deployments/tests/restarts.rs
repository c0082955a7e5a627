//! Changed variables restart the same build.

use runner::protocol::{Phase, VariableValue};
use uuid::Uuid;

use super::{Runner, queued, with_source};
use crate::app::App;
use crate::audit::Actor;
use crate::deployments::{self, Deployment, State};
use crate::projects::Project;
use crate::testing::app;
use crate::variables::{self, Change, Changed, NewVariable, Scope, Standing};

async fn set(app: &App, project: &Project, scope: Scope, value: &str) -> Changed {
    let change = Change {
        scope,
        set: vec![NewVariable {
            name: "GREETING".into(),
            value: value.into(),
            secret: false,
        }],
        unset: Vec::new(),
    };
    let mut tx = app.db.begin().await.unwrap();
    let changed = variables::change(&mut tx, project, &change, &Actor::System, app.clock.now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    changed
}

async fn get(app: &App, project: &Project, number: i32) -> Deployment {
    let mut db = app.db.acquire().await.unwrap();
    deployments::get(&mut db, project.id, &number.to_string())
        .await
        .unwrap()
}

/// What its runner is told that it finds.
async fn found(app: &App, runner: &Runner<'_>, deployment: Uuid) -> Vec<String> {
    let mut db = app.db.acquire().await.unwrap();
    let sent = variables::for_runner(&mut db, deployment, runner.id)
        .await
        .unwrap();
    sent.into_iter()
        .map(|variable| match variable.value {
            VariableValue::Plain(value) => format!("{}={value}", variable.name),
            VariableValue::Sealed(_) => variable.name,
        })
        .collect()
}

/// One that is live with the first value.
async fn live(app: &App) -> (Project, Runner<'_>, Deployment) {
    let hello = with_source(app, "hello").await;
    let runner = Runner::new(app);
    set(app, &hello, Scope::Production, "one").await;
    let first = queued(app, &hello).await;
    runner.claim(true).await;
    assert_eq!(found(app, &runner, first.id).await, ["GREETING=one"]);
    go_live(&runner, &first).await;
    (hello, runner, first)
}

async fn go_live(runner: &Runner<'_>, deployment: &Deployment) {
    runner
        .report(deployment.id, Phase::Healthy, Some("10.0.0.1:1"))
        .await;
}

async fn standing(app: &App, project: &Project) -> Standing {
    let mut db = app.db.acquire().await.unwrap();
    Standing::read(&mut db, project.id).await.unwrap()
}

#[tokio::test]
async fn a_change_restarts_the_same_build_and_the_old_one_keeps_its_values() {
    let app = app().await;
    let (hello, runner, first) = live(&app).await;
    let changed = set(&app, &hello, Scope::Production, "two").await;
    assert_eq!((changed.revision, changed.restart), (2, Some(2)));
    let restart = get(&app, &hello, 2).await;
    assert_eq!(
        (restart.build_of, restart.origin.as_str()),
        (Some(first.id), "variables")
    );
    let commit = get(&app, &hello, 1).await.commit_id;
    assert!(commit.is_some() && restart.commit_id == commit);
    let mut db = app.db.acquire().await.unwrap();
    let desired = deployments::list_desired(&mut db, runner.id).await.unwrap();
    assert_eq!(
        desired.iter().map(|d| d.reuse).collect::<Vec<_>>(),
        [None, Some(first.id)],
        "it goes to the runner that has the build"
    );
    drop(db);
    assert_eq!(found(&app, &runner, restart.id).await, ["GREETING=two"]);
    assert_eq!(found(&app, &runner, first.id).await, ["GREETING=one"]);
    assert_eq!(standing(&app, &hello).await.live.unwrap().revision, 1);
    go_live(&runner, &restart).await;
    let after = standing(&app, &hello).await;
    assert_eq!((after.live.unwrap().revision, after.next), (2, None));
    assert_eq!(get(&app, &hello, 1).await.state, State::Draining);
}

#[tokio::test]
async fn a_redis_comes_and_goes_by_a_restart_and_each_deployment_keeps_what_it_had() {
    let app = app().await;
    let (hello, runner, first) = live(&app).await;
    let switch = async |project: &Project, redis| {
        let settings = crate::projects::Settings {
            source_url: project.source_url.clone(),
            redis,
            ..crate::projects::Settings::default()
        };
        let mut tx = app.db.begin().await.unwrap();
        let now = app.clock.now();
        let changed =
            crate::projects::change(&mut tx, project, &settings, &Actor::System, now).await;
        tx.commit().await.unwrap();
        changed.unwrap()
    };
    let has = async |deployment: Uuid| {
        found(&app, &runner, deployment).await;
        let mut db = app.db.acquire().await.unwrap();
        variables::has_redis(&mut db, deployment).await.unwrap()
    };
    let hello = switch(&hello, true).await;
    let second = get(&app, &hello, 2).await;
    assert_eq!(second.build_of, Some(first.id));
    assert!(has(second.id).await && !has(first.id).await);
    go_live(&runner, &second).await;
    let hello = switch(&hello, true).await;
    assert_eq!(standing(&app, &hello).await.revision, 2, "nothing changed");
    let hello = switch(&hello, false).await;
    let third = get(&app, &hello, 3).await;
    assert!(!has(third.id).await && has(second.id).await);
}

#[tokio::test]
async fn changes_at_once_become_one_restart() {
    let app = app().await;
    let (hello, runner, _) = live(&app).await;
    // Nobody has fetched its values yet: it takes them all.
    assert_eq!(
        set(&app, &hello, Scope::Production, "two").await.restart,
        Some(2)
    );
    assert_eq!(
        set(&app, &hello, Scope::Production, "three").await.restart,
        None
    );
    let second = get(&app, &hello, 2).await;
    assert_eq!(found(&app, &runner, second.id).await, ["GREETING=three"]);
    // What comes after that follows it, as one.
    set(&app, &hello, Scope::Production, "four").await;
    set(&app, &hello, Scope::Production, "five").await;
    assert_eq!(found(&app, &runner, second.id).await, ["GREETING=three"]);
    go_live(&runner, &second).await;
    let third = get(&app, &hello, 3).await;
    assert_eq!(found(&app, &runner, third.id).await, ["GREETING=five"]);
    assert_eq!(third.build(), second.build(), "still the first build");
    go_live(&runner, &third).await;
    let mut db = app.db.acquire().await.unwrap();
    assert_eq!(
        deployments::list(&mut db, hello.id, 9).await.unwrap().len(),
        3
    );
}

#[tokio::test]
async fn a_restart_that_fails_leaves_the_live_one_and_is_not_repeated() {
    let app = app().await;
    let (hello, runner, first) = live(&app).await;
    set(&app, &hello, Scope::Production, "bad").await;
    let restart = get(&app, &hello, 2).await;
    found(&app, &runner, restart.id).await;
    runner.report(restart.id, Phase::Failed, None).await;
    assert_eq!(get(&app, &hello, 1).await.state, State::Live);
    assert_eq!(found(&app, &runner, first.id).await, ["GREETING=one"]);
    let now = standing(&app, &hello).await;
    assert_eq!((now.revision, now.live.as_ref().unwrap().revision), (2, 1));
    let next = now.next.unwrap();
    assert_eq!((next.deployment, next.state.as_str()), (2, "failed"));
    let mut db = app.db.acquire().await.unwrap();
    assert_eq!(
        deployments::list(&mut db, hello.id, 9).await.unwrap().len(),
        2
    );
    drop(db);
    assert_eq!(
        set(&app, &hello, Scope::Production, "good").await.restart,
        Some(3)
    );
}

#[tokio::test]
async fn a_change_during_a_deployment_follows_it_whether_it_goes_live_or_not() {
    let app = app().await;
    let (hello, runner, _) = live(&app).await;
    for (number, end) in [(2, Phase::Failed), (4, Phase::Healthy)] {
        let next = queued(&app, &hello).await;
        assert_eq!(next.number, number);
        runner.claim(true).await;
        found(&app, &runner, next.id).await;
        assert_eq!(
            set(&app, &hello, Scope::Production, "new").await.restart,
            None
        );
        runner.report(next.id, end, Some("10.0.0.1:1")).await;
        let restart = get(&app, &hello, number + 1).await;
        assert_eq!(restart.origin, "variables");
        runner.claim(true).await;
        go_live(&runner, &restart).await;
    }
}

#[tokio::test]
async fn a_roll_back_skips_what_differs_in_variables_only() {
    let app = app().await;
    let (hello, runner, _) = live(&app).await;
    let second = queued(&app, &hello).await;
    runner.claim(true).await;
    go_live(&runner, &second).await;
    app.clock.advance(time::Duration::SECOND);
    set(&app, &hello, Scope::Production, "two").await;
    let restart = get(&app, &hello, 3).await;
    go_live(&runner, &restart).await;
    let mut tx = app.db.begin().await.unwrap();
    let back = deployments::roll_back(&mut tx, &hello, &Actor::System, app.clock.now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!((back.origin.as_str(), back.build_of), ("rollback", None));
    let first = get(&app, &hello, 1).await;
    assert_eq!(back.commit_id, None);
    assert_eq!(back.source, {
        let mut source = first.source;
        if let runner::protocol::Source::Git { commit, .. } = &mut source {
            *commit = first.commit_id;
        }
        source
    });
}

#[tokio::test]
async fn previews_have_values_of_their_own() {
    let app = app().await;
    let (hello, runner, first) = live(&app).await;
    for scope in [Scope::Preview, Scope::Branch("fix".into())] {
        let changed = set(&app, &hello, scope, "preview").await;
        assert_eq!((changed.revision, changed.restart), (1, None));
    }
    assert_eq!(found(&app, &runner, first.id).await, ["GREETING=one"]);
    let mut db = app.db.acquire().await.unwrap();
    let list = variables::list(&mut db, hello.id).await.unwrap();
    let shown: Vec<(&str, Option<&str>)> = list
        .iter()
        .map(|v| (v.scope.as_str(), v.branch.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [
            ("production", None),
            ("preview", None),
            ("branch", Some("fix"))
        ]
    );
}

#[tokio::test]
async fn what_has_ended_keeps_no_values() {
    let app = app().await;
    let (hello, runner, first) = live(&app).await;
    runner.report(first.id, Phase::Failed, None).await;
    let mut db = app.db.acquire().await.unwrap();
    let kept: Option<serde_json::Value> =
        sqlx::query_scalar("select variables from deployments where project_id = $1")
            .bind(hello.id)
            .fetch_one(&mut *db)
            .await
            .unwrap();
    assert_eq!(kept, None);
}
