//! Pull requests and their previews: what is opened, what waits, what ends, and what each may have.

use edge::protocol::{CallEvent, Route};
use http::{Method, StatusCode};
use runner::protocol::{Commit, HostHeader, Phase, Report, Source, VariableValue};
use serde_json::{Value, json};
use time::Duration;
use uuid::Uuid;

use super::inbox::{inbox, project, tell, work};
use super::stand_in::{INSTALLATION, sha, with_app};
use crate::app::App;
use crate::audit::Actor;
use crate::deployments::{self, Deployment, State};
use crate::github::{pull_requests, worker};
use crate::previews::{self, Preview, sleep};
use crate::projects::{self, Project, Settings};
use crate::runners::{self, Presence};
use crate::testing::{self, Browser};
use crate::variables::{self, Change, NewVariable, Scope};
use crate::{build_variables, ids, routes, usage, volumes};

pub(super) fn told(action: &str, number: i64) -> Value {
    json!({ "action": action, "number": number, "repository": { "id": 11, "full_name": "octo/demo" },
        "installation": { "id": INSTALLATION } })
}

pub(super) async fn happen(app: &App, action: &str, number: i64) {
    tell(app, "pull_request", &told(action, number)).await;
    work(app).await;
}

pub(super) async fn find(app: &App, project: &Project, slug: &str) -> Preview {
    let mut db = app.db.acquire().await.unwrap();
    previews::get(&mut db, project.id, slug).await.unwrap()
}

pub(super) async fn state(app: &App, project: &Project, slug: &str) -> &'static str {
    find(app, project, slug).await.state.name()
}

/// The deployments of previews, oldest first: the preview, the commit that was asked for, the state.
pub(super) async fn runs(app: &App, project: &Project) -> Vec<(String, String, State)> {
    let mut db = app.db.acquire().await.unwrap();
    let mut all = deployments::list(&mut db, project.id, 100).await.unwrap();
    all.reverse();
    all.into_iter()
        .filter_map(|it| {
            let Source::Git { commit, .. } = it.source else {
                panic!("not of Git");
            };
            Some((it.preview?, commit.unwrap(), it.state))
        })
        .collect()
}

pub(super) async fn newest(app: &App, project: &Project, preview: &Preview) -> Deployment {
    let mut db = app.db.acquire().await.unwrap();
    deployments::find_newest(&mut db, project.id, Some(preview.id))
        .await
        .unwrap()
        .unwrap()
}

pub(super) async fn route(app: &App, host: &str) -> Option<Route> {
    let mut tx = app.db.begin().await.unwrap();
    let snapshot = routes::snapshot(&mut tx, &app.config, app.clock.now())
        .await
        .unwrap();
    snapshot.routes.into_iter().find(|route| route.host == host)
}

pub(super) const RUNNER: Uuid = Uuid::from_u128(77);

/// A runner takes what waits.
pub(super) async fn claim(app: &App) -> Vec<deployments::Desired> {
    let mut db = app.db.acquire().await.unwrap();
    let presence = Presence {
        id: RUNNER,
        sequence: 1,
        name: "one",
        public_key: "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        images: &[],
    };
    let now = app.clock.now();
    runners::saw(&mut db, &presence, now).await.unwrap();
    deployments::claim(&mut db, RUNNER, true, now)
        .await
        .unwrap();
    deployments::list_desired(&mut db, RUNNER).await.unwrap()
}

/// It says that a deployment answers.
pub(super) async fn answers(app: &App, deployment: &Deployment) {
    let Source::Git { commit, .. } = &deployment.source else {
        panic!("not of Git");
    };
    let commit = Commit {
        id: commit.clone().unwrap(),
        subject: None,
        author: None,
    };
    report(app, deployment, Phase::Healthy, Some(commit)).await;
}

/// It says how far a deployment is. What has a commit has an address too.
pub(super) async fn report(
    app: &App,
    deployment: &Deployment,
    phase: Phase,
    commit: Option<Commit>,
) {
    let report = Report {
        deployment: deployment.id,
        phase,
        upstream: commit.is_some().then(|| "10.0.0.1:1".into()),
        commit,
        host_header: HostHeader::Public,
        lock: None,
        plan: None,
        surface: None,
        diagnosis: None,
        timings: Vec::new(),
    };
    let mut tx = app.db.begin().await.unwrap();
    let drain = std::time::Duration::from_secs(30);
    deployments::take_report(&mut tx, RUNNER, &report, drain, app.clock.now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

/// A preview whose newest deployment is live.
pub(super) async fn live(app: &App, project: &Project, slug: &str) -> (Preview, Deployment) {
    let preview = find(app, project, slug).await;
    claim(app).await;
    answers(app, &newest(app, project, &preview).await).await;
    let deployment = newest(app, project, &preview).await;
    assert_eq!(deployment.state, State::Live);
    (preview, deployment)
}

pub(super) async fn set(
    app: &App,
    project: &Project,
    scope: Scope,
    name: &str,
    value: &str,
    secret: bool,
) {
    let change = Change {
        scope,
        set: vec![NewVariable {
            name: name.into(),
            value: value.into(),
            secret,
        }],
        unset: Vec::new(),
    };
    let mut tx = app.db.begin().await.unwrap();
    variables::change(&mut tx, project, &change, &Actor::System, app.clock.now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

/// What a runner is told that a deployment finds.
async fn found(app: &App, deployment: &Deployment) -> Vec<String> {
    let mut db = app.db.acquire().await.unwrap();
    let sent = variables::for_runner(&mut db, deployment.id, RUNNER)
        .await
        .unwrap();
    sent.into_iter()
        .map(|variable| match variable.value {
            VariableValue::Plain(value) => format!("{}={value}", variable.name),
            VariableValue::Sealed(_) => variable.name,
        })
        .collect()
}

#[tokio::test]
async fn a_pull_request_gets_a_preview_that_follows_its_head_and_ends_with_it() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    world.pull(12, &sha('b'));
    happen(&app, "opened", 12).await;
    // The same twice, and what is of no use.
    happen(&app, "opened", 12).await;
    happen(&app, "labeled", 12).await;
    assert_eq!(
        runs(&app, &project).await,
        [("pr-12".into(), sha('b'), State::Queued)]
    );
    let (preview, first) = live(&app, &project, "pr-12").await;
    assert_eq!(first.branch(), Some("change-12"));
    assert_eq!(
        (first.origin.as_str(), first.created_by.as_str()),
        ("preview", "github")
    );
    let host = "demo--pr-12.localhost";
    let told_of = route(&app, host).await.unwrap();
    assert_eq!(told_of.resource, "http://demo--pr-12.localhost:8080/mcp");
    assert_eq!(told_of.key_host, "demo--pr-12--key.localhost");
    assert_eq!(
        (told_of.project, told_of.preview_of),
        (preview.id, Some(project.id))
    );
    let production = route(&app, "demo.localhost").await.unwrap();
    assert_eq!(
        (production.project, production.preview_of),
        (project.id, None)
    );
    assert_eq!(told_of.policy, production.policy);
    assert_eq!(told_of.live.unwrap().commit, sha('b'));
    assert!(production.live.is_none(), "production has its own");

    world.pull(12, &sha('c'));
    happen(&app, "synchronize", 12).await;
    let (_, second) = live(&app, &project, "pr-12").await;
    let all = runs(&app, &project).await;
    assert_eq!(all[0].2, State::Draining);
    assert_eq!(second.id, newest(&app, &project, &preview).await.id);

    world.close_pull(12);
    happen(&app, "closed", 12).await;
    let states: Vec<State> = runs(&app, &project)
        .await
        .into_iter()
        .map(|it| it.2)
        .collect();
    assert_eq!(states, [State::Stopped, State::Stopped], "at once");
    assert!(route(&app, host).await.is_none());
    world.pull(12, &sha('c'));
    happen(&app, "reopened", 12).await;
    assert_eq!(
        find(&app, &project, "pr-12").await.id,
        preview.id,
        "the same one"
    );
    assert_eq!(runs(&app, &project).await.len(), 3);
    assert!(inbox(&app).await.iter().all(|(state, _)| state != "failed"));
}

#[tokio::test]
async fn what_a_late_delivery_says_brings_no_older_head_back() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    world.pull(3, &sha('c'));
    // Told in the wrong order, and of a head that is long gone.
    let mut old = told("synchronize", 3);
    old["pull_request"] = json!({ "state": "open", "head": { "sha": sha('b') } });
    tell(&app, "pull_request", &told("closed", 3)).await;
    tell(&app, "pull_request", &old).await;
    tell(&app, "pull_request", &told("opened", 3)).await;
    work(&app).await;
    assert_eq!(
        runs(&app, &project).await,
        [("pr-3".into(), sha('c'), State::Queued)]
    );
    world.close_pull(3);
    tell(&app, "pull_request", &old).await;
    work(&app).await;
    assert_eq!(state(&app, &project, "pr-3").await, "closed");
    tell(&app, "pull_request", &told("opened", 99)).await;
    work(&app).await;
    let said = inbox(&app).await.pop().unwrap();
    assert_eq!(said.0, "done", "{}", said.1);
    assert!(said.1.contains("no such pull request"), "{}", said.1);
}

#[tokio::test]
async fn the_comparison_heals_lost_deliveries() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    let compare = async || {
        app.clock.advance(Duration::minutes(5));
        worker::compare(&app).await.unwrap();
    };
    world.pull(1, &sha('b'));
    world.pull(2, &sha('c'));
    compare().await;
    assert_eq!(runs(&app, &project).await.len(), 2);
    world.pull(1, &sha('d'));
    world.close_pull(2);
    compare().await;
    compare().await;
    assert_eq!(
        runs(&app, &project).await,
        [
            ("pr-1".into(), sha('b'), State::Canceled),
            ("pr-2".into(), sha('c'), State::Canceled),
            ("pr-1".into(), sha('d'), State::Queued),
        ]
    );
    assert_eq!(state(&app, &project, "pr-2").await, "closed");
    *world.away.lock().unwrap() = Some("/pulls".into());
    world.push(11, "main", &sha('e'));
    compare().await;
    let mut db = app.db.acquire().await.unwrap();
    let newest = deployments::find_newest(&mut db, project.id, None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(newest.origin, "push", "the branch is compared all the same");
    assert!(pull_requests::compare(&app, project.id).await.is_err());
}

pub(super) async fn approve(browser: &mut Browser, slug: &str, body: &Value) -> testing::Answer {
    let path = format!("/projects/demo/previews/{slug}/approve");
    browser.api(Method::POST, &path, body).await
}

#[tokio::test]
async fn the_code_of_a_fork_waits_for_a_member_and_each_commit_anew() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    let mut owner = Browser::with_token(&app, &testing::owner(&app).await).await;
    world.pull_from(7, &sha('b'), Some(900));
    happen(&app, "opened", 7).await;
    assert_eq!(state(&app, &project, "pr-7").await, "waiting");
    assert!(runs(&app, &project).await.is_empty(), "nothing is built");
    assert!(route(&app, "demo--pr-7.localhost").await.is_none());
    let page = Browser::signed_in(&app).await.get("/projects/demo").await;
    assert!(
        page.body.contains("Approve commit bbbbbbbb"),
        "{}",
        page.body
    );
    let deployed = owner
        .api(
            Method::POST,
            "/projects/demo/previews/pr-7/deploy",
            &json!(null),
        )
        .await;
    assert_eq!(deployed.status, StatusCode::CONFLICT, "{}", deployed.body);

    // Who pushed meanwhile does not get by what was looked at.
    let stale = approve(&mut owner, "pr-7", &json!({ "commit": sha('9') })).await;
    assert_eq!(stale.status, StatusCode::CONFLICT, "{}", stale.body);
    assert!(stale.body.contains(&sha('b')), "{}", stale.body);
    let viewer = testing::member(&app, crate::organizations::Role::Viewer).await;
    let mut viewer = Browser::with_token(&app, &viewer).await;
    let refused = approve(&mut viewer, "pr-7", &json!({ "commit": sha('b') })).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    assert!(runs(&app, &project).await.is_empty());

    let approved = approve(&mut owner, "pr-7", &json!({ "commit": sha('b') })).await;
    assert_eq!(approved.status, StatusCode::OK, "{}", approved.body);
    assert_eq!(approved.value()["state"], "open");
    let (_, first) = live(&app, &project, "pr-7").await;
    assert_eq!(first.branch(), Some("refs/pull/7/head"));

    world.pull_from(7, &sha('c'), Some(900));
    happen(&app, "synchronize", 7).await;
    assert_eq!(state(&app, &project, "pr-7").await, "waiting");
    assert_eq!(
        runs(&app, &project).await,
        [("pr-7".into(), sha('b'), State::Stopped)]
    );
    // A fork that is deleted is nobody's own.
    world.pull_from(8, &sha('d'), None);
    happen(&app, "opened", 8).await;
    assert_eq!(state(&app, &project, "pr-8").await, "waiting");
    world.pull(9, &sha('e'));
    happen(&app, "opened", 9).await;
    let own = approve(&mut owner, "pr-9", &json!({ "commit": sha('e') })).await;
    assert_eq!(own.status, StatusCode::CONFLICT, "{}", own.body);
}

#[tokio::test]
async fn a_fork_gets_no_secret_and_no_build_variable_unless_a_member_says_so() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    claim(&app).await;
    let branch = |name: &str| Scope::Branch(name.into());
    set(&app, &project, Scope::Production, "PRODUCTION", "p", false).await;
    set(&app, &project, Scope::Preview, "PLAIN", "preview", false).await;
    set(&app, &project, Scope::Preview, "SECRET", "s", true).await;
    set(&app, &project, branch("change-1"), "PLAIN", "branch", false).await;
    set(&app, &project, branch("change-2"), "OWN", "o", true).await;
    let index = [NewVariable {
        name: "UV_INDEX_URL".into(),
        value: "https://index.invalid".into(),
        secret: true,
    }];
    let mut tx = app.db.begin().await.unwrap();
    build_variables::change(
        &mut tx,
        &project,
        &index,
        &[],
        &Actor::System,
        app.clock.now(),
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let is_foreign = async |deployment: &Deployment| {
        let desired = claim(&app).await;
        let found = desired.iter().find(|it| it.id == deployment.id);
        found.unwrap().preview.as_ref().unwrap().is_foreign
    };

    world.pull(1, &sha('b'));
    happen(&app, "opened", 1).await;
    let own = newest(&app, &project, &find(&app, &project, "pr-1").await).await;
    assert!(!is_foreign(&own).await);
    assert_eq!(found(&app, &own).await, ["PLAIN=branch", "SECRET"]);

    // By a branch of that name a stranger gets nothing of it.
    world.pull_from(2, &sha('c'), Some(900));
    happen(&app, "opened", 2).await;
    let mut owner = Browser::with_token(&app, &testing::owner(&app).await).await;
    approve(&mut owner, "pr-2", &json!({ "commit": sha('c') })).await;
    let foreign = newest(&app, &project, &find(&app, &project, "pr-2").await).await;
    assert!(is_foreign(&foreign).await);
    assert_eq!(found(&app, &foreign).await, ["PLAIN=preview"]);
    live(&app, &project, "pr-2").await;

    let body = json!({ "commit": sha('c'), "with_secrets": true });
    approve(&mut owner, "pr-2", &body).await;
    let trusted = newest(&app, &project, &find(&app, &project, "pr-2").await).await;
    assert!(!is_foreign(&trusted).await);
    assert_eq!(found(&app, &trusted).await, ["PLAIN=preview", "SECRET"]);
    assert_eq!(found(&app, &foreign).await, ["PLAIN=preview"], "as it was");
}

#[tokio::test]
async fn beyond_the_cap_previews_wait_for_a_place() {
    let (app, world) = with_app(&["--previews-per-project", "2"]).await;
    let project = project(&app).await;
    for (number, digit) in [(1, 'b'), (2, 'c'), (3, 'd'), (4, 'e')] {
        world.pull(number, &sha(digit));
        happen(&app, "opened", number).await;
        app.clock.advance(Duration::SECOND);
    }
    assert_eq!(runs(&app, &project).await.len(), 2);
    assert_eq!(state(&app, &project, "pr-3").await, "crowded");
    let page = Browser::signed_in(&app).await.get("/projects/demo").await;
    assert!(page.body.contains("Waits for a place"), "{}", page.body);
    world.close_pull(1);
    happen(&app, "closed", 1).await;
    assert_eq!(state(&app, &project, "pr-3").await, "open", "the oldest");
    assert_eq!(state(&app, &project, "pr-4").await, "crowded");
    assert_eq!(runs(&app, &project).await.pop().unwrap().1, sha('d'));
    // The head that it has by then.
    world.pull(4, &sha('f'));
    happen(&app, "synchronize", 4).await;
    world.close_pull(2);
    happen(&app, "closed", 2).await;
    assert_eq!(runs(&app, &project).await.pop().unwrap().1, sha('f'));
}

#[tokio::test]
async fn previews_that_are_switched_off_or_lose_their_repository_end_and_come_back() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    world.pull(1, &sha('b'));
    happen(&app, "opened", 1).await;
    live(&app, &project, "pr-1").await;
    let change = async |settings: Settings| {
        let mut tx = app.db.begin().await.unwrap();
        let before = projects::find(&mut tx, project.id).await.unwrap().unwrap();
        let settings = Settings {
            source_url: settings.source_url.or(before.source_url.clone()),
            ..settings
        };
        projects::change(&mut tx, &before, &settings, &Actor::System, app.clock.now())
            .await
            .unwrap();
        tx.commit().await.unwrap();
    };
    change(Settings {
        previews: false,
        ..Settings::default()
    })
    .await;
    assert_eq!(state(&app, &project, "pr-1").await, "closed");
    assert_eq!(runs(&app, &project).await[0].2, State::Stopped);
    happen(&app, "synchronize", 1).await;
    assert_eq!(state(&app, &project, "pr-1").await, "closed");
    change(Settings::default()).await;
    worker::compare(&app).await.unwrap();
    assert_eq!(state(&app, &project, "pr-1").await, "open");
    change(Settings {
        source_url: Some("https://git.example/other.git".into()),
        ..Settings::default()
    })
    .await;
    assert_eq!(state(&app, &project, "pr-1").await, "closed");
    let mut tx = app.db.begin().await.unwrap();
    projects::delete(&mut tx, &project, &Actor::System, app.clock.now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert!(claim(&app).await.is_empty());
}

#[tokio::test]
async fn a_preview_that_nobody_calls_sleeps_and_the_next_call_starts_it() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    world.pull(1, &sha('b'));
    happen(&app, "opened", 1).await;
    let host = "demo--pr-1.localhost";
    let starting = route(&app, host).await.unwrap();
    assert!(starting.starts && starting.live.is_none(), "calls are held");
    let (preview, first) = live(&app, &project, "pr-1").await;
    assert!(!route(&app, host).await.unwrap().starts);
    let idle = Duration::minutes(30);
    let sleepers = async || {
        sleep::put_to_sleep(&app.db, idle, app.clock.now())
            .await
            .unwrap()
    };
    app.clock.advance(Duration::minutes(29));
    let call = CallEvent {
        project: preview.id,
        deployment: first.id,
        grant: None,
        api_token: None,
        at_ms: i64::try_from(app.clock.now().unix_timestamp_nanos() / 1_000_000).unwrap(),
        duration_us: 1,
        status: 200,
    };
    let mut db = app.db.acquire().await.unwrap();
    usage::add(&mut db, &[call], app.clock.now()).await.unwrap();
    let counted = usage::since(&mut db, project.id, app.clock.now() - Duration::HOUR).await;
    assert_eq!(counted.unwrap().calls, 0, "not the project's");
    drop(db);
    app.clock.advance(Duration::minutes(20));
    assert_eq!(sleepers().await, 0, "it was called");
    app.clock.advance(Duration::minutes(11));
    assert_eq!(sleepers().await, 1);
    assert_eq!(sleepers().await, 0);
    assert_eq!(newest(&app, &project, &preview).await.state, State::Stopped);
    let asleep = route(&app, host).await.unwrap();
    assert!(asleep.starts && asleep.live.is_none(), "its route stays");

    let wake = async || {
        let called = [preview.id, project.id, ids::new_id()];
        sleep::wake(&app.db, &called, app.clock.now())
            .await
            .unwrap();
    };
    wake().await;
    wake().await;
    let woken = newest(&app, &project, &preview).await;
    assert_eq!(
        (woken.origin.as_str(), woken.number),
        ("wake", first.number + 1)
    );
    assert!(route(&app, host).await.unwrap().starts, "still held");
    live(&app, &project, "pr-1").await;
    assert!(route(&app, host).await.unwrap().live.is_some());
    assert_eq!(sleepers().await, 0, "it was just called");
}

#[tokio::test]
async fn production_and_previews_do_not_touch_each_other() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    world.pull(1, &sha('b'));
    happen(&app, "opened", 1).await;
    let (preview, of_preview) = live(&app, &project, "pr-1").await;
    let of_production = {
        let mut db = app.db.acquire().await.unwrap();
        deployments::get(&mut db, project.id, "1").await.unwrap()
    };
    assert!(of_production.state.is_pending(), "older, and under way");
    answers(&app, &of_production).await;
    let mut db = app.db.acquire().await.unwrap();
    let served = deployments::find_live(&mut db, project.id).await.unwrap();
    assert_eq!(
        served.map(|it| it.number),
        Some(1),
        "older, and not overtaken"
    );
    let before = deployments::find_before(&mut db, &of_preview)
        .await
        .unwrap();
    assert_eq!(
        before.map(|it| it.number),
        Some(1),
        "compared with production"
    );
    let promoted = deployments::promote(
        &mut db,
        &project,
        &of_preview,
        std::time::Duration::from_secs(1),
        &Actor::System,
        app.clock.now(),
    )
    .await;
    assert!(
        promoted
            .unwrap_err()
            .to_string()
            .contains("merge its pull request")
    );
    let back = deployments::roll_back(&mut db, &project, &Actor::System, app.clock.now()).await;
    assert!(back.is_err(), "a preview is nothing to roll back to");
    drop(db);

    set(&app, &project, Scope::Production, "A", "1", false).await;
    let restart = newest(&app, &project, &preview).await;
    assert_eq!(restart.id, of_preview.id, "not the preview's variables");
    set(&app, &project, Scope::Preview, "A", "2", false).await;
    let restart = newest(&app, &project, &preview).await;
    assert_eq!(
        (restart.origin.as_str(), restart.build_of),
        ("variables", Some(of_preview.id))
    );
    let mut db = app.db.acquire().await.unwrap();
    let of_production = deployments::find_newest(&mut db, project.id, None)
        .await
        .unwrap();
    assert_eq!(
        of_production.unwrap().variables_revision,
        1,
        "its own change alone"
    );
}

#[tokio::test]
async fn the_files_of_a_preview_are_removed_once_it_is_closed_and_not_before() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    claim(&app).await;
    world.pull(1, &sha('b'));
    happen(&app, "opened", 1).await;
    let preview = find(&app, &project, "pr-1").await;
    let report = runner::protocol::VolumeReport {
        project: preview.id,
        kind: runner::protocol::VolumeKind::Data,
        used_bytes: Some(7),
        size_bytes: Some(100),
        watched: None,
    };
    let removed = async || {
        let mut db = app.db.acquire().await.unwrap();
        let reports = [report.clone()];
        volumes::take_reports(&mut db, RUNNER, &reports, app.clock.now())
            .await
            .unwrap();
        volumes::list_removed(&mut db, RUNNER).await.unwrap()
    };
    assert!(removed().await.is_empty());
    world.close_pull(1);
    happen(&app, "closed", 1).await;
    assert_eq!(removed().await, [preview.id]);
    world.pull(1, &sha('b'));
    happen(&app, "reopened", 1).await;
    assert!(removed().await.is_empty(), "it is wanted again");
}
