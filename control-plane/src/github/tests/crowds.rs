//! Many pull requests, and many deliveries: what is bounded, what is not written, and what waits for
//! nothing.

use http::{Method, StatusCode};
use serde_json::json;
use time::Duration;

use super::inbox::{commits, inbox, project, push, tell, work};
use super::previews::{approve, find, happen, live, newest, runs, state, told};
use super::stand_in::{sha, with_app};
use crate::app::App;
use crate::audit::Actor;
use crate::db::{Changed, version};
use crate::deployments::{self, State};
use crate::github::pull_requests;
use crate::previews::turns::{Followed, MOST_WAITING, PullRequest, follow};
use crate::previews::{self, sleep};
use crate::projects::Project;
use crate::testing::{self, Browser};

fn of_fork(number: i64) -> PullRequest {
    PullRequest {
        number,
        title: "Something".into(),
        author: "stranger".into(),
        branch: "main".into(),
        head: sha('b'),
        fork: true,
        open: true,
        skipped: false,
    }
}

async fn follow_all(
    app: &App,
    project: &Project,
    numbers: impl Iterator<Item = i64>,
) -> Vec<Followed> {
    let mut tx = app.db.begin().await.unwrap();
    let mut all = Vec::new();
    for number in numbers {
        let now = app.clock.now();
        let followed = follow(&mut tx, project, &of_fork(number), 10, now).await;
        all.push(followed.unwrap());
    }
    tx.commit().await.unwrap();
    all
}

async fn versions(app: &App) -> (i64, i64) {
    let mut db = app.db.acquire().await.unwrap();
    let routes = version(&mut db, Changed::Routes).await.unwrap();
    (routes, version(&mut db, Changed::Sync).await.unwrap())
}

/// By which transaction each preview was written last.
async fn written(app: &App) -> Vec<String> {
    sqlx::query_scalar("select xmin::text from previews order by id")
        .fetch_all(&app.db)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_comparison_that_finds_nothing_new_writes_nothing() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    world.pull(1, &sha('b'));
    world.pull_from(2, &sha('c'), Some(900));
    pull_requests::compare(&app, project.id).await.unwrap();
    assert_eq!(state(&app, &project, "pr-2").await, "waiting");
    let before = (versions(&app).await, written(&app).await);
    world.asked.lock().unwrap().clear();
    pull_requests::compare(&app, project.id).await.unwrap();
    assert_eq!((versions(&app).await, written(&app).await), before);
    let asked = world.asked.lock().unwrap().clone();
    let singly = |path: &&String| path.contains("/pulls/");
    assert_eq!(asked.iter().find(singly), None, "the list says it all");
    // A waiting one that gets another commit waits on, and no edge hears of it.
    world.pull_from(2, &sha('d'), Some(900));
    pull_requests::compare(&app, project.id).await.unwrap();
    assert_eq!(find(&app, &project, "pr-2").await.head, sha('d'));
    assert_eq!(versions(&app).await, before.0);
}

#[tokio::test]
async fn of_the_forks_that_wait_the_newest_are_kept() {
    let (app, _world) = with_app(&[]).await;
    let project = project(&app).await;
    let most = i64::from(MOST_WAITING);
    let all = follow_all(&app, &project, 10..10 + most + 2).await;
    assert!(all.iter().all(|it| *it == Followed::Waits), "{all:?}");
    let mut db = app.db.acquire().await.unwrap();
    let kept = previews::list(&mut db, project.id).await.unwrap();
    assert_eq!(kept.len(), usize::from(MOST_WAITING));
    assert_eq!(kept.last().unwrap().pull_request, 12);
    drop(db);
    let older = follow_all(&app, &project, [5, 11].into_iter()).await;
    assert_eq!(older, [Followed::PassedOver; 2]);
    let mut db = app.db.acquire().await.unwrap();
    assert!(
        previews::find(&mut db, project.id, "pr-5")
            .await
            .unwrap()
            .is_none()
    );
    drop(db);

    let page = Browser::signed_in(&app).await.get("/projects/demo").await;
    assert_eq!(page.body.matches(">Approve commit").count(), 50);
    assert!(page.body.contains("There are more"), "{}", page.body);
}

#[tokio::test]
async fn only_a_change_that_is_shown_is_told_to_github() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    world.pull_from(1, &sha('b'), Some(900));
    happen(&app, "opened", 1).await;
    let wanted = async |change: &str| -> i64 {
        let sql = format!("update previews set {change}");
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(&app.db)
            .await
            .unwrap();
        sqlx::query_scalar("select coalesce(sum(wanted), 0)::bigint from github_feedback")
            .fetch_one(&app.db)
            .await
            .unwrap()
    };
    let before = wanted("title = title").await;
    assert!(before > 0);
    assert_eq!(
        wanted("state = state, asleep = asleep, head = head").await,
        before
    );
    assert!(wanted("state = 'closed'").await > before);
    assert_eq!(state(&app, &project, "pr-1").await, "closed");
}

#[tokio::test]
async fn pull_requests_hold_no_push_back_and_the_last_word_on_one_is_enough() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    *world.away.lock().unwrap() = Some("/pulls".into());
    world.pull(1, &sha('b'));
    tell(&app, "pull_request", &told("opened", 1)).await;
    tell(&app, "pull_request", &told("synchronize", 1)).await;
    tell(&app, "pull_request", &told("labeled", 1)).await;
    world.push(11, "main", &sha('e'));
    tell(&app, "push", &push("main", &sha('e'))).await;
    work(&app).await;
    assert_eq!(commits(&app, &project).await[0], sha('e'));
    let said = inbox(&app).await;
    assert!(said[0].1.contains("A later delivery"), "{said:?}");
    assert_eq!(said[1].0, "waiting", "{said:?}");
    *world.away.lock().unwrap() = None;
    app.clock.advance(Duration::MINUTE);
    work(&app).await;
    assert_eq!(state(&app, &project, "pr-1").await, "open");
    assert!(
        inbox(&app)
            .await
            .iter()
            .all(|(state, _)| state != "waiting")
    );
}

#[tokio::test]
async fn an_approval_ends_when_the_pull_request_closes() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    world.pull_from(7, &sha('b'), Some(900));
    happen(&app, "opened", 7).await;
    let mut owner = Browser::with_token(&app, &testing::owner(&app).await).await;
    let body = json!({ "commit": sha('b'), "with_secrets": true });
    let approved = approve(&mut owner, "pr-7", &body).await;
    assert_eq!(approved.status, StatusCode::OK, "{}", approved.body);
    world.close_pull(7);
    happen(&app, "closed", 7).await;
    world.pull_from(7, &sha('b'), Some(900));
    happen(&app, "reopened", 7).await;
    let again = find(&app, &project, "pr-7").await;
    assert_eq!(again.state.name(), "waiting");
    assert_eq!((again.approved_commit, again.with_secrets), (None, false));
}

#[tokio::test]
async fn previews_push_production_out_of_no_list() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    world.pull(1, &sha('b'));
    happen(&app, "opened", 1).await;
    let (preview, first) = live(&app, &project, "pr-1").await;
    for _ in 0..25 {
        let mut tx = app.db.begin().await.unwrap();
        let now = app.clock.now();
        deployments::redeploy(&mut tx, &project, &first, "wake", &Actor::System, now)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
    sqlx::query("update deployments set state = 'held' where number = 1")
        .execute(&app.db)
        .await
        .unwrap();
    let page = Browser::signed_in(&app).await.get("/projects/demo").await;
    assert!(page.body.contains("Deployment #1 is held"), "{}", page.body);
    let mut owner = Browser::with_token(&app, &testing::owner(&app).await).await;
    let mut list = async |query: &str| {
        let path = format!("/projects/demo/deployments?limit=1{query}");
        let answer = owner.api(Method::GET, &path, &json!(null)).await;
        answer.value()["deployments"][0]["number"].as_i64()
    };
    assert_eq!(list("&preview=none").await, Some(1));
    let of_preview = newest(&app, &project, &preview).await;
    assert_eq!(list("&preview=pr-1").await, Some(of_preview.number.into()));
    assert_eq!(list("&preview=pr-9").await, None);
    app.clock.advance(Duration::HOUR);
    let stopped = sleep::put_to_sleep(&app.db, Duration::HOUR, app.clock.now()).await;
    assert_eq!(stopped.unwrap(), 0, "something of it is under way");
    let waiting = runs(&app, &project).await;
    assert_eq!(waiting.last().unwrap().2, State::Queued);
}
