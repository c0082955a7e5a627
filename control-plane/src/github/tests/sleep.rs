//! Previews that sleep, and what keeps them from waking.

use runner::protocol::Phase;
use time::Duration;

use super::inbox::project;
use super::previews::{claim, find, happen, live, newest, report, route, runs};
use super::stand_in::{sha, with_app};
use crate::app::App;
use crate::audit::Actor;
use crate::db::{Changed, version};
use crate::deployments::{self, Deployment, State};
use crate::previews::{Preview, sleep};
use crate::projects::Project;

const IDLE: Duration = Duration::minutes(30);

const HOST: &str = "demo--pr-1.localhost";

async fn put_to_sleep(app: &App) -> usize {
    app.clock.advance(IDLE);
    sleep::put_to_sleep(&app.db, IDLE, app.clock.now())
        .await
        .unwrap()
}

async fn wake(app: &App, called: &[&Preview]) {
    let called: Vec<_> = called.iter().map(|preview| preview.id).collect();
    sleep::wake(&app.db, &called, app.clock.now())
        .await
        .unwrap();
}

/// Its runner says that a deployment came to nothing.
async fn fails(app: &App, deployment: &Deployment) {
    report(app, deployment, Phase::Failed, None).await;
}

async fn routes_version(app: &App) -> i64 {
    let mut db = app.db.acquire().await.unwrap();
    version(&mut db, Changed::Routes).await.unwrap()
}

async fn cancel(app: &App, project: &Project, deployment: &Deployment) {
    let mut tx = app.db.begin().await.unwrap();
    let now = app.clock.now();
    deployments::cancel(&mut tx, project, deployment, &Actor::System, now)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn one_that_cannot_be_started_keeps_no_other_from_it() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    let mut previews = Vec::new();
    for (number, digit) in [(1, 'b'), (2, 'c')] {
        world.pull(number, &sha(digit));
        happen(&app, "opened", number).await;
        previews.push(live(&app, &project, &format!("pr-{number}")).await);
    }
    assert_eq!(put_to_sleep(&app).await, 2);
    sqlx::query("update deployments set commit_id = null where id = $1")
        .bind(previews[0].1.id)
        .execute(&app.db)
        .await
        .unwrap();
    wake(&app, &[&previews[0].0, &previews[1].0]).await;
    assert!(find(&app, &project, "pr-1").await.asleep);
    assert_eq!(
        newest(&app, &project, &previews[0].0).await.origin,
        "preview"
    );
    assert_eq!(newest(&app, &project, &previews[1].0).await.origin, "wake");
}

#[tokio::test]
async fn a_wake_that_comes_to_nothing_is_tried_again_after_a_while() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    world.pull(1, &sha('b'));
    happen(&app, "opened", 1).await;
    let (preview, first) = live(&app, &project, "pr-1").await;
    assert_eq!(put_to_sleep(&app).await, 1);
    wake(&app, &[&preview]).await;
    claim(&app).await;
    let woken = newest(&app, &project, &preview).await;
    let before = routes_version(&app).await;
    fails(&app, &woken).await;
    assert!(routes_version(&app).await > before, "edges hear of it");
    assert!(route(&app, HOST).await.unwrap().starts, "the next call may");
    wake(&app, &[&preview]).await;
    assert_eq!(
        newest(&app, &project, &preview).await.id,
        woken.id,
        "not yet"
    );
    app.clock.advance(Duration::MINUTE);
    wake(&app, &[&preview]).await;
    let again = newest(&app, &project, &preview).await;
    assert_eq!((again.number, &*again.origin), (first.number + 2, "wake"));

    let before = routes_version(&app).await;
    cancel(&app, &project, &again).await;
    assert!(routes_version(&app).await > before);
    assert!(find(&app, &project, "pr-1").await.asleep);
    app.clock.advance(Duration::MINUTE);
    wake(&app, &[&preview]).await;
    live(&app, &project, "pr-1").await;
    assert!(route(&app, HOST).await.unwrap().live.is_some());
}

#[tokio::test]
async fn what_never_served_is_not_asleep_once_it_fails() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    world.pull(1, &sha('b'));
    happen(&app, "opened", 1).await;
    let preview = find(&app, &project, "pr-1").await;
    claim(&app).await;
    fails(&app, &newest(&app, &project, &preview).await).await;
    assert!(!find(&app, &project, "pr-1").await.asleep);
    assert!(!route(&app, HOST).await.unwrap().starts, "no call is held");
}

#[tokio::test]
async fn one_that_is_deployed_again_in_its_sleep_is_awake_and_sleeps_again() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    world.pull(1, &sha('b'));
    happen(&app, "opened", 1).await;
    let (_, first) = live(&app, &project, "pr-1").await;
    assert_eq!(put_to_sleep(&app).await, 1);
    let mut tx = app.db.begin().await.unwrap();
    let now = app.clock.now();
    deployments::redeploy(&mut tx, &project, &first, "api", &Actor::System, now)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert!(!find(&app, &project, "pr-1").await.asleep);
    live(&app, &project, "pr-1").await;
    assert_eq!(put_to_sleep(&app).await, 1);
    // However it came to be noted so.
    wake(&app, &[&find(&app, &project, "pr-1").await]).await;
    live(&app, &project, "pr-1").await;
    sqlx::query("update previews set asleep = true")
        .execute(&app.db)
        .await
        .unwrap();
    assert_eq!(put_to_sleep(&app).await, 1, "it is live all the same");
    let states = runs(&app, &project).await;
    assert!(states.iter().all(|it| it.2 == State::Stopped), "{states:?}");
}
