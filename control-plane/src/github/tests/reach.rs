//! Which organization may use what, since when, and until when.

use axum::body::Body;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use time::Duration;

use super::inbox::{commits, project};
use super::rounds::problem;
use super::stand_in::{INSTALLATION, sha, with_app};
use crate::app::App;
use crate::github::choices::{self, Named};
use crate::github::{installations, worker};
use crate::organizations::{self, Role};
use crate::testing::{self, Answer, Browser};

/// Goes to GitHub and back, for the organization of this form.
pub async fn connect(browser: &mut Browser, fields: &[(&str, &str)]) -> Answer {
    let csrf = browser.get("/github").await.field("csrf");
    let fields: Vec<_> = fields.iter().copied().chain([("csrf", &*csrf)]).collect();
    let away = browser.submit("/github/connect", &fields).await;
    if !away.status.is_redirection() {
        return away;
    }
    let state = away.parameter("state").unwrap();
    browser
        .get(&format!("/github/callback?code=good&state={state}"))
        .await
}

async fn readable(app: &App, organization: uuid::Uuid, repository: i64) -> bool {
    let mut db = app.db.acquire().await.unwrap();
    installations::find_readable_of(&mut db, organization, repository)
        .await
        .unwrap()
        .is_some()
}

async fn access(app: &App) -> Answer {
    let headers = [(
        "authorization",
        "Bearer runner-token-of-the-tests-0000000000",
    )];
    let path = "http://control.internal/internal/runner/repositories/11/access";
    Browser::new(app)
        .send(Method::POST, path, &headers, Body::empty())
        .await
}

#[tokio::test]
async fn a_name_that_passed_to_another_repository_is_not_followed() {
    let token = "runner-token-of-the-tests-0000000000";
    let (app, world) = with_app(&["--runner-token", token]).await;
    project(&app).await;
    let before = access(&app).await;
    assert_eq!(before.value()["url"], app.config.clone_url("octo/demo"));
    world.repositories.lock().unwrap().get_mut(&11).unwrap().0 = "octo/renamed".into();
    world.add(13, "octo/demo", &sha('9'));
    let owner = testing::owner(&app).await.id;
    let number = Named::Number(11);
    let choice = choices::choose(&app, owner, &number, None).await.unwrap();
    assert_eq!(choice.repository.full_name, "octo/renamed");
    assert_eq!(choice.head, sha('a'));
    let mut api = Browser::with_token(&app, &testing::owner(&app).await).await;
    let listed = api
        .api(
            Method::GET,
            "/github/repositories/11/branches",
            &Value::Null,
        )
        .await
        .value();
    assert_eq!(listed["repository"]["full_name"], "octo/renamed");
    assert_eq!(listed["branches"][0]["commit"], sha('a'));
    let after = access(&app).await;
    assert_eq!(after.value()["url"], app.config.clone_url("octo/renamed"));

    world.repositories.lock().unwrap().remove(&11);
    assert!(choices::choose(&app, owner, &number, None).await.is_err());
    assert_eq!(access(&app).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_a_member_showed_ends_with_their_membership() {
    let (app, world) = with_app(&[]).await;
    let editor = testing::member(&app, Role::Editor).await;
    let mut browser = Browser::signed_in_as(&app, &editor.email).await;
    assert_eq!(
        connect(&mut browser, &[]).await.location(),
        "/github?done=saved"
    );
    // The owner's own proof is another.
    let demo = project(&app).await;
    let mut owner = Browser::signed_in(&app).await;
    let csrf = owner.get("/github").await.field("csrf");
    let home = testing::home(&app).await;
    let remove = async |browser: &mut Browser, email: &str| {
        let path = format!("/members/{email}");
        browser.api(Method::DELETE, &path, &Value::Null).await
    };
    sqlx::query("delete from github_connections where user_id <> $1")
        .bind(editor.id)
        .execute(&app.db)
        .await
        .unwrap();
    assert!(readable(&app, home, 11).await, "by the editor's");
    let mut api = Browser::with_token(&app, &testing::owner(&app).await).await;
    let removed = remove(&mut api, &editor.email).await;
    assert!(removed.status.is_success(), "{}", removed.body);
    assert!(!readable(&app, home, 11).await);
    assert!(
        problem(&app, &demo)
            .await
            .unwrap()
            .contains("Nobody in this organization")
    );

    world.push(11, "main", &sha('b'));
    app.clock.advance(Duration::minutes(5));
    worker::compare(&app).await.unwrap();
    assert_eq!(commits(&app, &demo).await, [sha('a')]);
    let page = owner.get("/projects/demo").await;
    assert!(
        page.body.contains("Nobody in this organization"),
        "{}",
        page.body
    );
    let refused = api
        .api(Method::POST, "/projects/demo/deployments", &json!({}))
        .await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);

    // Shown again, it goes on.
    assert!(!csrf.is_empty());
    connect(&mut owner, &[]).await.location();
    app.clock.advance(Duration::minutes(5));
    worker::compare(&app).await.unwrap();
    assert_eq!(commits(&app, &demo).await, [sha('b'), sha('a')]);
    assert_eq!(problem(&app, &demo).await, None);
}

#[tokio::test]
async fn what_a_member_showed_ends_when_they_may_not_deploy_any_more() {
    let (app, _world) = with_app(&[]).await;
    let editor = testing::member(&app, Role::Editor).await;
    let mut browser = Browser::signed_in_as(&app, &editor.email).await;
    connect(&mut browser, &[]).await.location();
    let demo = project(&app).await;
    sqlx::query("delete from github_connections where user_id <> $1")
        .bind(editor.id)
        .execute(&app.db)
        .await
        .unwrap();
    let home = testing::home(&app).await;
    let mut api = Browser::with_token(&app, &testing::owner(&app).await).await;
    let path = format!("/members/{}", editor.email);
    for (role, stays) in [("admin", true), ("editor", true), ("viewer", false)] {
        let body = json!({ "role": role });
        let changed = api.api(Method::PATCH, &path, &body).await;
        assert!(changed.status.is_success(), "{}", changed.body);
        assert_eq!(readable(&app, home, 11).await, stays, "{role}");
    }
    assert!(
        problem(&app, &demo)
            .await
            .unwrap()
            .contains("Nobody in this")
    );

    // Neither is what was deployed before brought back.
    for (path, body) in [
        ("/projects/demo/deployments", json!({})),
        ("/projects/demo/deployments/1/promote", Value::Null),
    ] {
        sqlx::query("update deployments set state = 'stopped', commit_id = $1")
            .bind(sha('a'))
            .execute(&app.db)
            .await
            .unwrap();
        let refused = api.api(Method::POST, path, &body).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);
        assert!(refused.body.contains("Nobody in this"), "{}", refused.body);
    }
}

#[tokio::test]
async fn connecting_again_replaces_what_one_showed_before() {
    let (app, world) = with_app(&[]).await;
    world.add(12, "octo/secret", &sha('1'));
    let home = testing::home(&app).await;
    let mut browser = Browser::signed_in(&app).await;
    connect(&mut browser, &[]).await.location();
    assert!(readable(&app, home, 12).await, "all of one's own account");
    *world.owns.lock().unwrap() = false;
    connect(&mut browser, &[]).await.location();
    assert!(!readable(&app, home, 12).await, "no right to push");
    assert!(readable(&app, home, 11).await);
}

#[tokio::test]
async fn a_connection_is_ended_by_who_made_it_and_by_who_manages() {
    let (app, _world) = with_app(&[]).await;
    let home = testing::home(&app).await;
    let mut owner = Browser::signed_in(&app).await;
    connect(&mut owner, &[]).await.location();
    let end = async |browser: &mut Browser| {
        let page = browser.get("/github").await;
        let button = page.body.contains("/github/disconnect");
        let (csrf, organization) = (page.field("csrf"), home.to_string());
        let installation = INSTALLATION.to_string();
        let fields = [
            ("csrf", &*csrf),
            ("organization", &*organization),
            ("installation", &*installation),
        ];
        (button, browser.submit("/github/disconnect", &fields).await)
    };
    for (role, status) in [
        (Role::Viewer, StatusCode::FORBIDDEN),
        (Role::Editor, StatusCode::NOT_FOUND),
    ] {
        let user = testing::member(&app, role).await;
        let mut browser = Browser::signed_in_as(&app, &user.email).await;
        let (button, answer) = end(&mut browser).await;
        assert_eq!((button, answer.status), (false, status), "{}", answer.body);
    }
    let foreign = testing::stranger(&app).await;
    let mut browser = Browser::signed_in_as(&app, &foreign.email).await;
    assert_eq!(end(&mut browser).await.1.status, StatusCode::NOT_FOUND);
    assert!(readable(&app, home, 11).await);
    let editor = testing::member(&app, Role::Editor).await;
    let mut browser = Browser::signed_in_as(&app, &editor.email).await;
    connect(&mut browser, &[]).await.location();
    let (button, answer) = end(&mut browser).await;
    assert!(button);
    assert_eq!(answer.location(), "/github?done=removed");
    assert!(readable(&app, home, 11).await, "the owner's is there");
    assert_eq!(end(&mut owner).await.1.location(), "/github?done=removed");
    assert!(!readable(&app, home, 11).await);
}

#[tokio::test]
async fn who_edits_several_organizations_says_which_one_gets_the_repositories() {
    let (app, _world) = with_app(&[]).await;
    let user = testing::owner(&app).await;
    let mut db = app.db.acquire().await.unwrap();
    let (now, mut made) = (app.clock.now(), Vec::new());
    for (name, role) in [("second", Role::Editor), ("third", Role::Viewer)] {
        let id = organizations::create(&mut db, name, now).await.unwrap();
        organizations::add_member(&mut db, id, user.id, role)
            .await
            .unwrap();
        made.push(id.to_string());
    }
    drop(db);
    let mut browser = Browser::signed_in(&app).await;
    let page = browser.get("/github").await.body;
    assert!(
        page.contains("<select id=\"home\"") && page.contains(">second<"),
        "{page}"
    );
    assert!(!page.contains(">third<"), "{page}");
    let refused = connect(&mut browser, &[("organization", &made[1])]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    connect(&mut browser, &[("organization", &made[0])])
        .await
        .location();
    assert!(readable(&app, made[0].parse().unwrap(), 11).await);
    assert!(!readable(&app, testing::home(&app).await, 11).await);
    let page = browser.get("/github").await.body;
    assert!(page.contains("Used by second"), "{page}");
}

#[tokio::test]
async fn a_plan_has_one_source() {
    let (app, _world) = with_app(&[]).await;
    let mut api = Browser::with_token(&app, &testing::owner(&app).await).await;
    let body = json!({ "github_repository": 11, "source_url": "https://github.com/a/b.git" });
    let answer = api.api(Method::POST, "/plans", &body).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.body.contains("Give either"), "{}", answer.body);
}
