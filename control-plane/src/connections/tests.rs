//! Steps on a real Postgres: merging, bounds, joining and what is made of them.

use std::net::IpAddr;

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    Attempt, Failure, Seen, Standing, Step, Visitor, flush, keep_all, list, purge, record,
};
use crate::app::App;
use crate::testing::{Browser, app, owner, project, stranger};

const CLIENT: &str = "cursor/3.2";
const BROWSER: &str = "Mozilla/5.0";

fn visitor(address: &str, agent: &str) -> Visitor {
    Visitor {
        address: address.parse::<IpAddr>().unwrap(),
        user_agent: Some(agent.to_owned()),
    }
}

/// A day of steps, told in seconds after the start.
struct Story<'a> {
    app: &'a App,
    start: OffsetDateTime,
}

impl Story<'_> {
    fn seen(&self, second: i64, step: Step, agent: &str) -> Seen {
        let at = self.start + Duration::seconds(second);
        Seen::new(step, &visitor("192.0.2.7", agent), at)
    }

    async fn keep(&self, steps: &[Seen]) {
        let mut db = self.app.db.acquire().await.unwrap();
        keep_all(&mut db, &self.app.kek, steps).await.unwrap();
    }

    async fn told(&self, project: Uuid, second: i64) -> Vec<Attempt> {
        let mut db = self.app.db.acquire().await.unwrap();
        let now = self.start + Duration::seconds(second);
        list(&mut db, project, now).await.unwrap()
    }
}

fn story(app: &App) -> Story<'_> {
    Story {
        app,
        start: app.clock.now(),
    }
}

async fn count(app: &App) -> i64 {
    sqlx::query_scalar("select count(*) from connection_steps")
        .fetch_one(&app.db)
        .await
        .unwrap()
}

/// The whole way of a client that works, from the challenge to the call.
fn whole_way(story: &Story<'_>, project: Uuid, user: Uuid) -> Vec<Seen> {
    vec![
        story.seen(0, Step::Challenged, CLIENT).project(project),
        story
            .seen(1, Step::ResourceMetadata, CLIENT)
            .project(project),
        story.seen(2, Step::ServerMetadata, CLIENT),
        story
            .seen(3, Step::Registered, CLIENT)
            .client("c1")
            .named("Cursor"),
        story
            .seen(4, Step::Authorize, BROWSER)
            .client("c1")
            .project(project),
        story
            .seen(20, Step::SignedIn, BROWSER)
            .client("c1")
            .project(project)
            .user(user),
        story
            .seen(21, Step::ConsentShown, BROWSER)
            .client("c1")
            .project(project)
            .user(user),
        story
            .seen(25, Step::Consent, BROWSER)
            .client("c1")
            .project(project)
            .user(user),
        story
            .seen(26, Step::CodeExchanged, CLIENT)
            .client("c1")
            .project(project)
            .user(user),
        story
            .seen(27, Step::Called, CLIENT)
            .client("c1")
            .project(project)
            .user(user),
    ]
}

#[tokio::test]
async fn the_whole_way_of_a_client_is_one_attempt_in_order() {
    let app = app().await;
    let (hello, owner) = (project(&app, "hello").await, owner(&app).await);
    let story = story(&app);
    story.keep(&whole_way(&story, hello.id, owner.id)).await;
    let told = story.told(hello.id, 60).await;
    assert_eq!(told.len(), 1, "{told:#?}");
    let attempt = &told[0];
    assert_eq!(attempt.client, "Cursor");
    assert_eq!(attempt.user_agent.as_deref(), Some(CLIENT));
    assert_eq!(attempt.user.as_deref(), Some(owner.email.as_str()));
    assert_eq!(attempt.standing, Standing::Connected);
    let steps: Vec<Step> = attempt.events.iter().map(|event| event.step).collect();
    assert_eq!(
        steps,
        [
            Step::Challenged,
            Step::ResourceMetadata,
            Step::ServerMetadata,
            Step::Registered,
            Step::Authorize,
            Step::SignedIn,
            Step::ConsentShown,
            Step::Consent,
            Step::CodeExchanged,
            Step::Called,
        ]
    );
}

#[tokio::test]
async fn like_steps_within_ten_minutes_are_one_and_others_are_not() {
    let app = app().await;
    let hello = project(&app, "hello").await;
    let story = story(&app);
    let challenged = |second| {
        story
            .seen(second, Step::Challenged, CLIENT)
            .project(hello.id)
    };
    story.keep(&[challenged(0), challenged(300)]).await;
    story.keep(&[challenged(800)]).await;
    assert_eq!(count(&app).await, 1, "each within ten minutes of the last");
    story.keep(&[challenged(1_401)]).await;
    assert_eq!(count(&app).await, 2);
    let other_agent = story
        .seen(1_401, Step::Challenged, BROWSER)
        .project(hello.id);
    let other_step = story.seen(1_401, Step::Called, CLIENT).project(hello.id);
    let failed = other_step.clone().failed(Failure::TokenExpired);
    let other_client = other_step.clone().client("c2");
    let other_project = story.seen(1_401, Step::Challenged, CLIENT);
    story
        .keep(&[other_agent, other_step, failed, other_client, other_project])
        .await;
    assert_eq!(count(&app).await, 7);
    let mut told = story.told(hello.id, 1_500).await;
    told.retain(|attempt| attempt.client == CLIENT);
    let first = told.last().unwrap().events[0].clone();
    assert_eq!(
        (
            first.count,
            (first.last_at - first.first_at).whole_seconds()
        ),
        (4, 1_401),
        "like ones in a row are shown as one"
    );
}

#[tokio::test]
async fn the_newest_steps_are_kept_for_seven_days() {
    let app = app().await;
    let hello = project(&app, "hello").await;
    let other = project(&app, "other").await;
    let story = story(&app);
    let fill = "insert into connection_steps (project_id, step, peer, user_agent, first_at, last_at, count)
         select $1, 'challenged', n::text::bytea, n::text, $2, $2, 1 from generate_series(1, $3) n";
    for (project, rows) in [(Some(hello.id), 5_000), (Some(other.id), 3), (None, 20_000)] {
        sqlx::query(fill)
            .bind(project)
            .bind(story.start)
            .bind(rows)
            .execute(&app.db)
            .await
            .unwrap();
    }
    story
        .keep(&[
            story.seen(1, Step::Called, CLIENT).project(hello.id),
            story.seen(1, Step::ServerMetadata, CLIENT),
        ])
        .await;
    assert_eq!(count(&app).await, 5_000 + 3 + 20_000);
    let newest: i64 =
        sqlx::query_scalar("select count(*) from connection_steps where last_at > $1")
            .bind(story.start)
            .fetch_one(&app.db)
            .await
            .unwrap();
    assert_eq!(newest, 2, "the oldest gave way");

    let mut db = app.db.acquire().await.unwrap();
    let week = story.start + Duration::days(7);
    purge(&mut db, week).await.unwrap();
    assert_eq!(count(&app).await, 5_000 + 3 + 20_000);
    purge(&mut db, week + Duration::SECOND / 2).await.unwrap();
    assert_eq!(count(&app).await, 2);
}

#[tokio::test]
async fn steps_without_a_project_join_the_client_they_belong_to_and_no_other() {
    let app = app().await;
    let (hello, owner) = (project(&app, "hello").await, owner(&app).await);
    let story = story(&app);
    let neighbour = visitor("198.51.100.1", CLIENT);
    let long_ago = visitor("203.0.113.5", CLIENT);
    let at = |second| story.start + Duration::seconds(second);
    let mut steps = whole_way(&story, hello.id, owner.id);
    steps.extend([
        // Another network, another client, and this peer long before.
        Seen::new(Step::ServerMetadata, &neighbour, at(2)),
        Seen::new(Step::Registered, &neighbour, at(2)).client("c9"),
        story.seen(-7_200, Step::ServerMetadata, CLIENT),
        // Its registration, though from elsewhere and days ago.
        Seen::new(Step::Registered, &long_ago, at(-200_000)).client("c1"),
    ]);
    story.keep(&steps).await;
    let told = story.told(hello.id, 60).await;
    let events: usize = told.iter().map(|attempt| attempt.events.len()).sum();
    assert_eq!(events, 11, "{told:#?}");
    assert!(told.iter().all(|it| it.client_id.as_deref() == Some("c1")));
}

#[tokio::test]
async fn the_newest_failure_is_the_reason_until_the_client_gets_further() {
    let app = app().await;
    let (hello, owner) = (project(&app, "hello").await, owner(&app).await);
    let story = story(&app);
    let by = |second, step| {
        story
            .seen(second, step, CLIENT)
            .project(hello.id)
            .client("c1")
            .user(owner.id)
    };
    let standing = async |second| story.told(hello.id, second).await[0].standing;
    story
        .keep(&[by(0, Step::CodeExchanged).failed(Failure::VerifierWrong)])
        .await;
    let refused = Standing::Failed(Failure::VerifierWrong);
    assert_eq!(standing(1).await, refused);
    story.keep(&[by(2, Step::Challenged)]).await;
    assert_eq!(standing(3).await, refused, "asking the way is no progress");
    story.keep(&[by(4, Step::Authorize)]).await;
    assert_eq!(standing(5).await, Standing::Underway);
    story.keep(&[by(6, Step::Called)]).await;
    assert_eq!(standing(7).await, Standing::Connected);
    story
        .keep(&[by(8, Step::Called).failed(Failure::SessionUnknown)])
        .await;
    assert_eq!(
        standing(9).await,
        Standing::Connected,
        "clients get over it"
    );
    story
        .keep(&[by(10, Step::Called).failed(Failure::TokenRevoked)])
        .await;
    assert_eq!(standing(11).await, Standing::Failed(Failure::TokenRevoked));
}

#[tokio::test]
async fn an_attempt_that_went_no_further_says_where_it_stopped() {
    let app = app().await;
    let hello = project(&app, "hello").await;
    let story = story(&app);
    for (minute, step, failure) in [
        (0, Step::Challenged, Failure::StoppedAfterChallenge),
        (60, Step::Authorize, Failure::StoppedAtSignIn),
        (120, Step::ConsentShown, Failure::StoppedAtConsent),
        (180, Step::Consent, Failure::StoppedAfterConsent),
        (240, Step::CodeExchanged, Failure::StoppedAfterToken),
    ] {
        let seen = story
            .seen(minute * 60, step, &minute.to_string())
            .project(hello.id);
        story.keep(&[seen]).await;
        let told = story.told(hello.id, minute * 60 + 60).await;
        assert_eq!(told[0].standing, Standing::Underway, "{step:?}");
        let told = story.told(hello.id, minute * 60 + 601).await;
        assert_eq!(told[0].standing, Standing::Failed(failure), "{step:?}");
    }
}

#[tokio::test]
async fn a_client_that_begins_anew_later_is_another_attempt() {
    let app = app().await;
    let (hello, owner) = (project(&app, "hello").await, owner(&app).await);
    let story = story(&app);
    story.keep(&whole_way(&story, hello.id, owner.id)).await;
    let by = |second, step| {
        story
            .seen(second, step, CLIENT)
            .project(hello.id)
            .client("c1")
            .user(owner.id)
    };
    // Refreshing and calling go on; asking for access again does not.
    story
        .keep(&[
            by(3_600, Step::Refreshed),
            by(3_601, Step::Called),
            by(9_000, Step::Authorize).failed(Failure::RedirectUriMismatch),
        ])
        .await;
    let told = story.told(hello.id, 9_001).await;
    let standings: Vec<Standing> = told.iter().map(|attempt| attempt.standing).collect();
    assert_eq!(
        standings,
        [
            Standing::Failed(Failure::RedirectUriMismatch),
            Standing::Connected
        ]
    );
    assert_eq!(told[1].events.len(), 12);
}

#[tokio::test]
async fn what_is_recorded_is_written_later_and_shown_to_members_alone() {
    let app = app().await;
    let hello = project(&app, "hello").await;
    let story = story(&app);
    let mut browser = Browser::signed_in(&app).await;
    let empty = browser.get("/projects/hello/connections").await;
    assert!(empty.body.contains("No client has tried"), "{}", empty.body);
    assert!(empty.body.contains(r#"href="/projects/hello#connect""#));

    let seen = story
        .seen(0, Step::Authorize, BROWSER)
        .project(hello.id)
        .client("https://app.example/<b>")
        .failed(Failure::NoAccess)
        .detail("scope <i>");
    record(&app, seen);
    assert_eq!(count(&app).await, 0, "nobody waited for it");
    flush(&app).await;
    let page = browser.get("/projects/hello/connections").await;
    for text in [
        Failure::NoAccess.title(),
        "is not among those who may call",
        "/docs/connections#no_access",
        "scope &#60;i&#62;",
    ] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }
    let api = browser
        .get("/api/v1/projects/hello/connections")
        .await
        .value();
    let first = &api["connections"][0];
    assert_eq!(first["state"], "failed");
    assert_eq!(first["failure"]["code"], "no_access");
    assert_eq!(
        first["failure"]["page"],
        "http://localhost:8080/docs/connections#no_access"
    );
    assert_eq!(first["steps"][0]["step"], "authorize");

    let stranger = stranger(&app).await;
    let mut other = Browser::signed_in_as(&app, &stranger.email).await;
    for path in [
        "/projects/hello/connections",
        "/api/v1/projects/hello/connections",
    ] {
        assert_eq!(other.get(path).await.status, http::StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn every_code_has_its_place_on_the_page_of_reasons() {
    let app = app().await;
    let page = Browser::new(&app).get("/docs/connections").await;
    assert_eq!(page.status, http::StatusCode::OK);
    for failure in Failure::ALL {
        let place = format!("id=\"{}\"", failure.code());
        assert_eq!(page.body.matches(&place).count(), 1, "{place}");
    }
}

#[tokio::test]
async fn a_flood_never_holds_a_request_up() {
    let app = app().await;
    let story = story(&app);
    for n in 0..10_000 {
        let visitor = visitor(&format!("198.51.{}.{}", n / 256, n % 256), CLIENT);
        record(&app, Seen::new(Step::ServerMetadata, &visitor, story.start));
    }
    flush(&app).await;
    assert_eq!(count(&app).await, 4_096);
}

#[tokio::test]
async fn no_stranger_drives_out_what_users_did() {
    let app = app().await;
    let (hello, owner) = (project(&app, "hello").await, owner(&app).await);
    let story = story(&app);
    story.keep(&whole_way(&story, hello.id, owner.id)).await;
    // Later, with a client made up for each request: from everywhere, and most of all from one place.
    let invented = |n: i64, address: &str| {
        let at = story.start + Duration::seconds(60 + n);
        Seen::new(Step::Authorize, &visitor(address, BROWSER), at)
            .client(format!("invented-{n}"))
            .project(hello.id)
    };
    let fill = "insert into connection_steps (project_id, step, client_id, peer, first_at, last_at, count)
         select $1, 'authorize', 'made-up-' || n, n::text::bytea, $2, $2, 1 from generate_series(1, 5000) n";
    sqlx::query(fill)
        .bind(hello.id)
        .bind(story.start + Duration::seconds(60))
        .execute(&app.db)
        .await
        .unwrap();
    let noise: Vec<Seen> = (0..1_500)
        .map(|n| invented(n, "198.51.100.9"))
        .chain([invented(9_000, "203.0.113.4")])
        .collect();
    story.keep(&noise).await;

    let kept = "select count(*) filter (where user_id is null), count(*) filter (where user_id is not null)
         from connection_steps where project_id = $1";
    let kept: (i64, i64) = sqlx::query_as(kept)
        .bind(hello.id)
        .fetch_one(&app.db)
        .await
        .unwrap();
    assert_eq!(kept, (5_000, 5), "bounded, but not at the users' cost");
    let of_peer =
        "select max(n) from (select count(*) as n from connection_steps group by peer) of_peer";
    let of_peer: i64 = sqlx::query_scalar(of_peer)
        .fetch_one(&app.db)
        .await
        .unwrap();
    assert_eq!(of_peer, 1_000);

    let told = story.told(hello.id, 20_000).await;
    let connected: Vec<&Attempt> = told
        .iter()
        .filter(|attempt| attempt.standing == Standing::Connected)
        .collect();
    assert_eq!(connected.len(), 1, "{told:#?}");
    assert_eq!(connected[0].client, "Cursor");
    assert!(
        connected[0]
            .events
            .iter()
            .any(|it| it.step == Step::Registered)
    );
    let invented = |attempt: &&Attempt| {
        let id = attempt.client_id.as_deref().unwrap_or_default();
        id.starts_with("invented-") && id != "invented-9000"
    };
    assert_eq!(told.iter().filter(invented).count(), 10, "its share");
    let quiet = |attempt: &Attempt| attempt.client_id.as_deref() == Some("invented-9000");
    assert!(told.iter().any(quiet), "another is not lost among them");
}
