//! What runners say, in every order, on a real Postgres.

use edge::protocol::InstanceUse;
use runner::protocol::{Commit, HostHeader, Package, Phase, Report, Source};
use time::Duration;
use uuid::Uuid;

mod held;
mod restarts;

use super::{
    Deployment, LEASE, Request, State, claim, end_abandoned, end_drains, get, list, list_desired,
    queue, redeploy,
};
use crate::access::{self, Mode};
use crate::app::App;
use crate::audit::Actor;
use crate::db::{Changed, version};
use crate::edges::{self, EdgeKey};
use crate::error::Result;
use crate::ids;
use crate::projects::Project;
use crate::runners::{self, Before, Presence};
use crate::testing::{app, project};

const DRAIN: std::time::Duration = std::time::Duration::from_secs(30);

/// A runner that syncs; each call is one sync's worth.
struct Runner<'a> {
    app: &'a App,
    id: Uuid,
}

impl<'a> Runner<'a> {
    fn new(app: &'a App) -> Self {
        Self {
            app,
            id: ids::new_id(),
        }
    }

    async fn saw(&self, sequence: i64) -> Before {
        let presence = Presence {
            id: self.id,
            sequence,
            name: "one",
            public_key: "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            images: &[],
        };
        let mut db = self.app.db.acquire().await.unwrap();
        runners::saw(&mut db, &presence, self.app.clock.now())
            .await
            .unwrap()
    }

    async fn claim(&self, present: bool) -> Vec<Uuid> {
        self.saw(1).await;
        let mut db = self.app.db.acquire().await.unwrap();
        claim(&mut db, self.id, present, self.app.clock.now())
            .await
            .unwrap();
        list_desired(&mut db, self.id)
            .await
            .unwrap()
            .into_iter()
            .map(|d| d.id)
            .collect()
    }

    async fn report(&self, deployment: Uuid, phase: Phase, upstream: Option<&str>) {
        self.tell(deployment, phase, upstream, HostHeader::Public)
            .await;
    }

    async fn tell(
        &self,
        deployment: Uuid,
        phase: Phase,
        upstream: Option<&str>,
        host_header: HostHeader,
    ) {
        let report = Report {
            deployment,
            phase,
            commit: Some(Commit {
                id: "a".repeat(40),
                subject: None,
                author: None,
            }),
            upstream: upstream.map(str::to_owned),
            host_header,
            lock: None,
            plan: None,
            surface: None,
            diagnosis: None,
            timings: Vec::new(),
        };
        let mut tx = self.app.db.begin().await.unwrap();
        super::take_report(&mut tx, self.id, &report, DRAIN, self.app.clock.now())
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
}

async fn with_source(app: &App, name: &str) -> Project {
    Project {
        source_url: Some("https://git.example/you/one.git".into()),
        ..project(app, name).await
    }
}

async fn queued(app: &App, project: &Project) -> Deployment {
    let mut tx = app.db.begin().await.unwrap();
    let deployment = queue(
        &mut tx,
        project,
        Request::default(),
        "api",
        &Actor::System,
        app.clock.now(),
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    deployment
}

async fn states(app: &App, project: &Project) -> Vec<(i32, State, Option<String>)> {
    let mut db = app.db.acquire().await.unwrap();
    let mut all = list(&mut db, project.id, 50).await.unwrap();
    all.reverse();
    all.into_iter()
        .map(|d| (d.number, d.state, d.upstream))
        .collect()
}

fn here(number: i32, state: State, upstream: &str) -> (i32, State, Option<String>) {
    (
        number,
        state,
        (!upstream.is_empty()).then(|| upstream.to_owned()),
    )
}

#[tokio::test]
async fn a_package_comes_back_in_the_version_it_had() {
    let app = app().await;
    let time = Project {
        source_url: Some("pypi:mcp-server-time".into()),
        ..project(&app, "time").await
    };
    let mut db = app.db.acquire().await.unwrap();
    let now = app.clock.now();
    let of = |commit: Option<&str>, branch: Option<&str>| Request {
        commit: commit.map(str::to_owned),
        branch: branch.map(str::to_owned),
        ..Request::default()
    };
    let mut version_of = async |request: Request| -> Result<Option<String>> {
        let made = queue(&mut db, &time, request, "api", &Actor::System, now).await?;
        match made.source {
            Source::Package(package) => Ok(package.version),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(version_of(of(None, None)).await.unwrap(), None);
    let pinned = version_of(of(Some("1.2.3"), None)).await.unwrap();
    assert_eq!(pinned.as_deref(), Some("1.2.3"));
    assert!(version_of(of(Some("latest"), None)).await.is_err());
    assert!(version_of(of(None, Some("main"))).await.is_err());
    let first = get(&mut db, time.id, "1").await.unwrap();
    let again = redeploy(&mut db, &time, &first, "promote", &Actor::System, now).await;
    assert!(again.is_err(), "it never got as far as a version");
    let resolved = Deployment {
        commit_id: Some("2.0.0".to_owned()),
        ..first
    };
    let again = redeploy(&mut db, &time, &resolved, "promote", &Actor::System, now)
        .await
        .unwrap();
    let expected = Package::parse("pypi:mcp-server-time==2.0.0").unwrap();
    assert_eq!(again.source, Source::Package(expected));
}

#[tokio::test]
async fn the_newer_one_goes_live_and_the_older_never_after_it() {
    let app = app().await;
    let hello = with_source(&app, "hello").await;
    let runner = Runner::new(&app);
    let first = queued(&app, &hello).await;
    runner.claim(true).await;
    runner.report(first.id, Phase::Building, None).await;
    let second = queued(&app, &hello).await;
    runner.claim(true).await;
    runner
        .report(second.id, Phase::Healthy, Some("10.0.0.2:1"))
        .await;
    runner
        .report(first.id, Phase::Healthy, Some("10.0.0.1:1"))
        .await;
    assert_eq!(
        states(&app, &hello).await,
        [
            here(1, State::Canceled, "10.0.0.1:1"),
            here(2, State::Live, "10.0.0.2:1")
        ]
    );
}

#[tokio::test]
async fn a_late_report_moves_nothing_and_a_restart_keeps_the_address() {
    let app = app().await;
    let hello = with_source(&app, "hello").await;
    let runner = Runner::new(&app);
    let one = queued(&app, &hello).await;
    runner.claim(true).await;
    // Without an address there is nothing to route to.
    runner.report(one.id, Phase::Healthy, None).await;
    assert_eq!(states(&app, &hello).await, [here(1, State::Queued, "")]);
    runner
        .report(one.id, Phase::Healthy, Some("10.0.0.1:1"))
        .await;
    for phase in [Phase::Building, Phase::Starting, Phase::Checking] {
        runner.report(one.id, phase, None).await;
        assert_eq!(
            states(&app, &hello).await,
            [here(1, State::Live, "10.0.0.1:1")],
            "{phase:?}"
        );
    }
    runner
        .report(one.id, Phase::Healthy, Some("10.0.0.9:1"))
        .await;
    assert_eq!(
        states(&app, &hello).await,
        [here(1, State::Live, "10.0.0.9:1")]
    );
    // Another runner's word does not count.
    Runner::new(&app).report(one.id, Phase::Failed, None).await;
    assert_eq!(
        states(&app, &hello).await,
        [here(1, State::Live, "10.0.0.9:1")]
    );
}

#[tokio::test]
async fn promotions_at_once_leave_exactly_one_live() {
    let app = app().await;
    let hello = with_source(&app, "hello").await;
    let runner = Runner::new(&app);
    let mut all = Vec::new();
    for _ in 0..8 {
        let one = queued(&app, &hello).await;
        runner.claim(true).await;
        runner.report(one.id, Phase::Building, None).await;
        all.push(one.id);
    }
    let reports = all
        .iter()
        .map(|id| runner.report(*id, Phase::Healthy, Some("10.0.0.1:1")));
    futures_util::future::join_all(reports).await;
    let states = states(&app, &hello).await;
    let live: Vec<i32> = states
        .iter()
        .filter(|s| s.1 == State::Live)
        .map(|s| s.0)
        .collect();
    assert_eq!(live, [8], "{states:?}");
}

#[tokio::test]
async fn r39_a_runner_hears_who_looks_at_credentials() {
    let app = app().await;
    let hello = with_source(&app, "hello").await;
    let runner = Runner::new(&app);
    queued(&app, &hello).await;
    runner.claim(true).await;
    let mut db = app.db.acquire().await.unwrap();
    for mode in [Mode::Tenant, Mode::Public, Mode::Platform] {
        let before = version(&mut db, Changed::Sync).await.unwrap();
        let change = access::Change {
            mode: Some(mode),
            ..access::Change::default()
        };
        access::change(&mut db, &hello, &change, &Actor::System, app.clock.now())
            .await
            .unwrap();
        let after = version(&mut db, Changed::Sync).await.unwrap();
        assert!(after > before, "a sync that is held is answered");
        let desired = list_desired(&mut db, runner.id).await.unwrap();
        assert_eq!(desired[0].mode, mode);
    }
}

#[tokio::test]
async fn only_the_newest_waits_for_a_runner() {
    let app = app().await;
    let hello = with_source(&app, "hello").await;
    for _ in 0..3 {
        queued(&app, &hello).await;
    }
    assert_eq!(
        states(&app, &hello).await,
        [
            here(1, State::Canceled, ""),
            here(2, State::Canceled, ""),
            here(3, State::Queued, "")
        ]
    );
}

#[tokio::test]
async fn a_late_sync_is_known_as_such() {
    let app = app().await;
    let runner = Runner::new(&app);
    assert!(!runner.saw(1_000_000_000).await.late);
    assert!(!runner.saw(1_000_000_500).await.late);
    assert!(
        runner.saw(1_000_000_400).await.late,
        "older than one already seen"
    );
    assert!(
        !runner.saw(5).await.late,
        "a clock set back is not a late request"
    );
}

#[tokio::test]
async fn work_moves_to_another_runner_only_from_one_that_is_gone() {
    let app = app().await;
    let hello = with_source(&app, "hello").await;
    let (one, two) = (Runner::new(&app), Runner::new(&app));
    let deployment = queued(&app, &hello).await;
    assert_eq!(one.claim(true).await, [deployment.id]);
    assert!(two.claim(true).await.is_empty(), "its lease holds");
    app.clock.advance(LEASE + Duration::SECOND);
    assert!(
        two.claim(false).await.is_empty(),
        "after an outage nobody takes the others' work"
    );
    assert_eq!(two.claim(true).await, [deployment.id]);
    assert!(one.claim(true).await.is_empty(), "it was taken over");
}

#[tokio::test]
async fn what_a_lost_runner_left_ends_with_a_reason() {
    let app = app().await;
    let hello = with_source(&app, "hello").await;
    let runner = Runner::new(&app);
    let one = queued(&app, &hello).await;
    runner.claim(true).await;
    runner.report(one.id, Phase::Building, None).await;
    app.clock.advance(Duration::hours(1));
    let mut tx = app.db.begin().await.unwrap();
    end_abandoned(&mut tx, app.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    let mut db = app.db.acquire().await.unwrap();
    let ended = get(&mut db, hello.id, "1").await.unwrap();
    assert_eq!(ended.state, State::Failed);
    assert!(
        ended.diagnosis.unwrap()["cause"]
            .as_str()
            .unwrap()
            .contains("went away")
    );
}

/// A project of which one deployment was just replaced, and its id.
async fn replaced(app: &App) -> Uuid {
    let hello = with_source(app, "hello").await;
    let runner = Runner::new(app);
    let mut all = Vec::new();
    for _ in 0..2 {
        let one = queued(app, &hello).await;
        runner.claim(true).await;
        runner
            .report(one.id, Phase::Healthy, Some("10.0.0.1:1"))
            .await;
        all.push(one.id);
    }
    all[0]
}

#[tokio::test]
async fn r20_edges_learn_which_host_an_instance_is_told() {
    let app = app().await;
    let hello = with_source(&app, "hello").await;
    let runner = Runner::new(&app);
    let one = queued(&app, &hello).await;
    runner.claim(true).await;
    for (said, told) in [
        (HostHeader::Localhost, edge::protocol::HostHeader::Localhost),
        (HostHeader::Public, edge::protocol::HostHeader::Public),
    ] {
        runner
            .tell(one.id, Phase::Healthy, Some("10.0.0.1:8000"), said)
            .await;
        let mut tx = app.db.begin().await.unwrap();
        let snapshot = crate::routes::snapshot(&mut tx, &app.config, app.clock.now())
            .await
            .unwrap();
        let live = snapshot.routes[0].live.as_ref().unwrap();
        assert_eq!(live.host_header, told);
    }
}

/// Passes time, runs the timer and tells whether the instance is still on edges' tables.
async fn is_routed(app: &App, later: Duration) -> bool {
    app.clock.advance(later);
    let mut tx = app.db.begin().await.unwrap();
    end_drains(&mut tx, app.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = app.db.begin().await.unwrap();
    let snapshot = crate::routes::snapshot(&mut tx, &app.config, app.clock.now())
        .await
        .unwrap();
    !snapshot.routes[0].draining.is_empty()
}

/// An edge that reports.
struct Edge(EdgeKey);

impl Edge {
    fn new() -> Self {
        let (jwk, kid, _) = crate::signing_keys::generate().unwrap();
        Self(EdgeKey::read(&kid, &jwk).unwrap())
    }

    async fn says(&self, app: &App, deployment: Uuid, sessions: u32, requests: u32) {
        let used = InstanceUse {
            deployment,
            sessions,
            requests,
        };
        self.lists(app, &[used]).await;
    }

    async fn lists(&self, app: &App, instances: &[InstanceUse]) {
        let mut db = app.db.acquire().await.unwrap();
        edges::saw(&mut db, &self.0, 0, instances, app.clock.now())
            .await
            .unwrap();
    }

    async fn serves(&self, app: &App, version: i64) {
        let mut db = app.db.acquire().await.unwrap();
        edges::saw(&mut db, &self.0, version, &[], app.clock.now())
            .await
            .unwrap();
    }
}

const SECONDS: fn(i64) -> Duration = Duration::seconds;

#[tokio::test]
async fn while_no_edge_reports_a_drain_ends_at_its_bound() {
    let app = app().await;
    replaced(&app).await;
    assert!(is_routed(&app, SECONDS(29)).await);
    assert!(!is_routed(&app, SECONDS(1)).await);
}

#[tokio::test]
async fn a_drain_ends_once_every_edge_says_that_nobody_depends_on_it() {
    let app = app().await;
    let old = replaced(&app).await;
    let (one, two) = (Edge::new(), Edge::new());
    // Before edges can have heard of it, their word does not count.
    one.says(&app, old, 0, 0).await;
    two.says(&app, old, 2, 0).await;
    assert!(is_routed(&app, SECONDS(10)).await);
    one.says(&app, old, 0, 0).await;
    two.says(&app, old, 1, 1).await;
    assert!(is_routed(&app, SECONDS(1)).await);
    two.says(&app, old, 0, 1).await;
    assert!(is_routed(&app, SECONDS(1)).await, "a request is under way");
    two.lists(&app, &[]).await;
    assert!(
        !is_routed(&app, SECONDS(1)).await,
        "it does not even know it"
    );
}

#[tokio::test]
async fn an_edge_that_has_not_spoken_since_holds_the_drain() {
    let app = app().await;
    let old = replaced(&app).await;
    let (one, silent) = (Edge::new(), Edge::new());
    silent.lists(&app, &[]).await;
    app.clock.advance(SECONDS(12));
    one.says(&app, old, 0, 0).await;
    assert!(is_routed(&app, SECONDS(1)).await);
    one.says(&app, old, 0, 0).await;
    assert!(is_routed(&app, SECONDS(16)).await, "29 s is lately");
    // At 30 s the bound would end it anyway.
}

#[tokio::test]
async fn sessions_hold_a_drain_until_its_bound_and_are_shown() {
    let app = app().await;
    let old = replaced(&app).await;
    let edge = Edge::new();
    for _ in 0..5 {
        edge.says(&app, old, 3, 0).await;
        assert!(is_routed(&app, SECONDS(5)).await);
    }
    let mut db = app.db.acquire().await.unwrap();
    let hello = crate::projects::find_by_name(&mut db, "hello")
        .await
        .unwrap()
        .unwrap();
    let shown = get(&mut db, hello.id, "1").await.unwrap();
    assert_eq!((shown.state, shown.sessions), (State::Draining, 3));
    edge.says(&app, old, 3, 0).await;
    assert!(!is_routed(&app, SECONDS(5)).await);
}

#[tokio::test]
async fn what_a_silent_edge_said_is_forgotten() {
    let app = app().await;
    let old = replaced(&app).await;
    Edge::new().says(&app, old, 3, 0).await;
    let mut db = app.db.acquire().await.unwrap();
    let mut seen = Vec::new();
    for minutes in [9, 2] {
        app.clock.advance(Duration::minutes(minutes));
        edges::forget_silent(&mut db, app.clock.now())
            .await
            .unwrap();
        let sessions: Option<i64> = sqlx::query_scalar("select sum(sessions) from edge_instances")
            .fetch_one(&mut *db)
            .await
            .unwrap();
        seen.push(sessions);
    }
    assert_eq!(seen, [Some(3), None]);
}

#[tokio::test]
async fn a_drained_instance_is_unrouted_before_it_is_stopped() {
    let app = app().await;
    let hello = with_source(&app, "hello").await;
    let runner = Runner::new(&app);
    for _ in 0..2 {
        let one = queued(&app, &hello).await;
        runner.claim(true).await;
        runner
            .report(one.id, Phase::Healthy, Some("10.0.0.1:1"))
            .await;
    }
    let routed = async || {
        let mut tx = app.db.begin().await.unwrap();
        let snapshot = crate::routes::snapshot(&mut tx, &app.config, app.clock.now())
            .await
            .unwrap();
        snapshot.routes[0].draining.len()
    };
    let stopping = async || {
        let mut db = app.db.acquire().await.unwrap();
        list_desired(&mut db, runner.id)
            .await
            .unwrap()
            .iter()
            .filter(|d| d.stop)
            .count()
    };
    let tick = async || {
        let mut tx = app.db.begin().await.unwrap();
        end_drains(&mut tx, app.clock.now()).await.unwrap();
        tx.commit().await.unwrap();
    };
    tick().await;
    assert_eq!((routed().await, stopping().await), (1, 0), "it drains");
    app.clock.advance(Duration::seconds(31));
    tick().await;
    assert_eq!(
        (routed().await, stopping().await),
        (0, 0),
        "edges forget it first"
    );
    app.clock.advance(Duration::seconds(3));
    tick().await;
    assert_eq!(
        (routed().await, stopping().await),
        (0, 1),
        "then it is stopped"
    );
}

/// Whether each deployment is served, the oldest first.
async fn served(app: &App, project: &Project) -> Vec<bool> {
    let mut db = app.db.acquire().await.unwrap();
    let now = app.clock.now();
    let in_use = edges::oldest_in_use(&mut db, now).await.unwrap();
    let mut all = list(&mut db, project.id, 50).await.unwrap();
    all.reverse();
    all.iter().map(|d| d.is_served(in_use, now)).collect()
}

#[tokio::test]
async fn a_live_one_is_served_once_every_running_edge_knows() {
    let app = app().await;
    let hello = with_source(&app, "hello").await;
    let runner = Runner::new(&app);
    let (one, two) = (Edge::new(), Edge::new());
    one.serves(&app, 0).await;
    two.serves(&app, 0).await;
    let first = queued(&app, &hello).await;
    runner.claim(true).await;
    assert_eq!(served(&app, &hello).await, [false], "not live yet");
    runner
        .report(first.id, Phase::Healthy, Some("10.0.0.1:1"))
        .await;
    let version = {
        let mut db = app.db.acquire().await.unwrap();
        crate::db::version(&mut db, crate::db::Changed::Routes)
            .await
            .unwrap()
    };
    assert_eq!(served(&app, &hello).await, [false]);
    one.serves(&app, version).await;
    two.serves(&app, version - 1).await;
    assert_eq!(served(&app, &hello).await, [false], "one edge lags");
    two.serves(&app, version + 1).await;
    assert_eq!(served(&app, &hello).await, [true]);

    let second = queued(&app, &hello).await;
    runner.claim(true).await;
    runner
        .report(second.id, Phase::Healthy, Some("10.0.0.2:1"))
        .await;
    assert_eq!(served(&app, &hello).await, [false, false]);
    app.clock.advance(edges::LATELY);
    one.serves(&app, version + 100).await;
    assert_eq!(
        served(&app, &hello).await,
        [false, true],
        "an edge that is gone is waited for no longer"
    );
}

#[tokio::test]
async fn while_no_edge_reports_a_live_one_counts_as_served_after_a_while() {
    let app = app().await;
    let hello = with_source(&app, "hello").await;
    let runner = Runner::new(&app);
    let first = queued(&app, &hello).await;
    runner.claim(true).await;
    runner
        .report(first.id, Phase::Healthy, Some("10.0.0.1:1"))
        .await;
    app.clock.advance(SECONDS(9));
    assert_eq!(served(&app, &hello).await, [false]);
    app.clock.advance(SECONDS(1));
    assert_eq!(served(&app, &hello).await, [true]);
}
