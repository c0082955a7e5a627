//! Comparisons by the clock, lists of repositories, and what others share.

use serde_json::json;
use time::Duration;

use super::inbox::{commits, inbox, project, tell, work};
use super::stand_in::{INSTALLATION, sha, with_app};
use crate::app::App;
use crate::audit::Actor;
use crate::github::{Failure, installations, links, rest, worker};
use crate::projects::{self, Project};
use crate::testing;

/// A project of a repository, as a person made it some time ago.
async fn follow(app: &App, name: &str, repository: i64) -> Project {
    let made = testing::project(app, name).await;
    let owner = testing::owner(app).await;
    let mut db = app.db.acquire().await.unwrap();
    let readable = installations::get_readable(&mut db, owner.id, repository)
        .await
        .unwrap();
    let (actor, now) = (Actor::System, app.clock.now());
    links::create(&mut db, &made, &readable, &sha('1'), &actor, now)
        .await
        .unwrap();
    made
}

pub(super) async fn problem(app: &App, project: &Project) -> Option<String> {
    let mut db = app.db.acquire().await.unwrap();
    let link = links::find(&mut db, project.id).await.unwrap();
    link.unwrap().problem
}

/// Waits until Postgres says that somebody waits for a lock.
async fn until_someone_waits(app: &App) {
    loop {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock'",
        )
        .fetch_one(&app.db)
        .await
        .unwrap();
        if waiting > 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn projects_that_cannot_be_compared_hold_back_no_others() {
    let (app, world) = with_app(&[]).await;
    for id in [13, 15, 17] {
        world.add(id, &format!("octo/bad-{id}"), &sha('2'));
    }
    let demo = project(&app).await;
    let mut bad = Vec::new();
    for id in [13, 15, 17] {
        bad.push(follow(&app, &format!("bad-{id}"), id).await);
    }
    // They are first in every round.
    sqlx::query("update github_links set checked_at = null where repository_id <> 11")
        .execute(&app.db)
        .await
        .unwrap();
    *world.away.lock().unwrap() = Some("octo/bad".into());
    app.clock.advance(Duration::minutes(5));
    world.push(11, "main", &sha('b'));
    worker::compare(&app).await.unwrap();
    assert_eq!(commits(&app, &demo).await, [sha('a')], "GitHub seems away");
    worker::compare(&app).await.unwrap();
    assert_eq!(commits(&app, &demo).await, [sha('b'), sha('a')]);
    for project in &bad {
        assert_eq!(problem(&app, project).await, None, "GitHub's trouble");
    }
}

#[tokio::test]
async fn names_that_addresses_drop_are_not_asked_for() {
    let (app, world) = with_app(&[]).await;
    for branch in ["", ".", ".."] {
        let answer = rest::find_branch(&app, INSTALLATION, "octo/demo", branch).await;
        assert!(matches!(answer, Err(Failure::Refused(_))), "{answer:?}");
    }
    assert_eq!(world.count("repos/"), 0);
    for branch in [
        "", ".", "..", "/a", "a/", "a//b", ".a", "a/.b", "a/./b", "a/../b",
    ] {
        assert!(projects::check_branch(branch).is_err(), "{branch}");
    }
    for branch in ["main", "feature/x", "v1.2", "a.b/c.d"] {
        assert!(projects::check_branch(branch).is_ok(), "{branch}");
    }
}

#[tokio::test]
async fn a_branch_under_another_name_is_not_the_one_that_was_meant() {
    let (app, _world) = with_app(&[]).await;
    for (branch, there) in [("main", true), ("former", false), ("none", false)] {
        let found = rest::find_branch(&app, INSTALLATION, "octo/demo", branch)
            .await
            .unwrap();
        assert_eq!(found.is_some(), there, "{branch}");
    }
}

#[tokio::test]
async fn a_list_is_asked_for_by_one_and_not_at_once_again() {
    let (app, world) = with_app(&[]).await;
    project(&app).await;
    let owner = testing::owner(&app).await.id;
    app.clock.advance(Duration::minutes(11));
    *world.away.lock().unwrap() = Some("installation/repositories".into());
    let before = world.count("installation/repositories");
    let asked = || world.count("installation/repositories") - before;
    let looks = (0..5).map(|_| installations::refresh_for(&app, owner));
    let failed = futures_util::future::join_all(looks).await;
    assert_eq!(failed.iter().filter(|it| it.is_err()).count(), 1);
    assert_eq!(asked(), 1);
    installations::refresh_for(&app, owner).await.unwrap();
    assert_eq!(asked(), 1, "not at once");
    app.clock.advance(Duration::minutes(1));
    *world.away.lock().unwrap() = None;
    installations::refresh_for(&app, owner).await.unwrap();
    installations::refresh_for(&app, owner).await.unwrap();
    assert_eq!(asked(), 2);
}

#[tokio::test]
async fn no_connection_is_held_while_github_lists() {
    let (app, _world) = with_app(&[]).await;
    project(&app).await;
    let mut held = Vec::new();
    for _ in 1..app.db.options().get_max_connections() {
        held.push(app.db.acquire().await.unwrap());
    }
    let last = held.len();
    assert_eq!(last + 1, 10, "one is left");
    installations::refresh(&app, INSTALLATION).await.unwrap();
}

#[tokio::test]
async fn one_projects_trouble_takes_nothing_back_of_what_others_share() {
    let (app, world) = with_app(&[]).await;
    world.add(13, "octo/bad", &sha('2'));
    let demo = project(&app).await;
    let bad = follow(&app, "bad", 13).await;
    *world.away.lock().unwrap() = Some("repos/octo/bad".into());
    world.push(11, "main", &sha('c'));
    world.add(21, "octo/new", &sha('3'));
    let told = json!({ "action": "added", "installation": { "id": INSTALLATION } });
    tell(&app, "installation_repositories", &told).await;
    work(&app).await;
    let (state, outcome) = inbox(&app).await.remove(0);
    assert_eq!(state, "done");
    assert!(outcome.contains("GitHub answered 502"), "{outcome}");
    assert_eq!(commits(&app, &demo).await, [sha('c'), sha('a')]);
    let owner = testing::owner(&app).await.id;
    let mut db = app.db.acquire().await.unwrap();
    installations::get_readable(&mut db, owner, 21)
        .await
        .unwrap();
    assert_eq!(problem(&app, &bad).await, None);
}

#[tokio::test]
async fn an_installation_that_came_back_unheard_is_found_by_the_clock() {
    let (app, world) = with_app(&[]).await;
    let demo = project(&app).await;
    *world.suspended.lock().unwrap() = true;
    let told = json!({ "action": "suspend", "installation": { "id": INSTALLATION,
        "account": { "id": 1, "login": "o", "type": "User" } } });
    tell(&app, "installation", &told).await;
    work(&app).await;
    assert!(problem(&app, &demo).await.unwrap().contains("suspended"));
    let before = world.count("app/installations/71");
    app.clock.advance(Duration::minutes(5));
    for _ in 0..3 {
        worker::compare(&app).await.unwrap();
    }
    assert_eq!(world.count("app/installations/71") - before, 1);
    *world.suspended.lock().unwrap() = false;
    world.push(11, "main", &sha('d'));
    app.clock.advance(Duration::minutes(5));
    worker::compare(&app).await.unwrap();
    assert_eq!(problem(&app, &demo).await, None);
    assert_eq!(commits(&app, &demo).await, [sha('d'), sha('a')]);
}

#[tokio::test]
async fn whoever_deletes_a_project_waits_for_whoever_looks_at_it() {
    let (app, _world) = with_app(&[]).await;
    let demo = project(&app).await;
    let mut looking = app.db.begin().await.unwrap();
    assert!(links::lock(&mut looking, demo.id).await.unwrap());
    let (other, gone) = (app.clone(), demo.clone());
    let deleting = tokio::task::JoinSet::from_iter([async move {
        let mut tx = other.db.begin().await.unwrap();
        let now = other.clock.now();
        projects::delete(&mut tx, &gone, &Actor::System, now)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }]);
    until_someone_waits(&app).await;
    // What looking does next would be a deadlock if the project were taken first.
    sqlx::query("update projects set last_deployment_number = 9 where id = $1")
        .bind(demo.id)
        .execute(&mut *looking)
        .await
        .unwrap();
    looking.commit().await.unwrap();
    deleting.join_all().await;
    let mut db = app.db.acquire().await.unwrap();
    assert_eq!(projects::find(&mut db, demo.id).await.unwrap(), None);
}
