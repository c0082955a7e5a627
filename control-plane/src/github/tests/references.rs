//! Deploying what somebody names, and projects that come to follow a repository later.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use time::Duration;

use super::inbox::{commits, project, push, tell, work};
use super::stand_in::{sha, with_app};
use crate::app::App;
use crate::deployments;
use crate::github::{links, worker};
use crate::organizations::Role;
use crate::projects::{self, Project};
use crate::testing::{self, Answer, Browser};

async fn deploy(app: &App, reference: &str) -> Answer {
    let mut browser = Browser::signed_in(app).await;
    let csrf = browser.get("/projects/demo").await.field("csrf");
    let fields = [("csrf", &*csrf), ("reference", reference)];
    browser.submit("/projects/demo/deploy", &fields).await
}

async fn newest_branch(app: &App, project: &Project) -> Option<String> {
    let mut db = app.db.acquire().await.unwrap();
    let all = deployments::list(&mut db, project.id, 1).await.unwrap();
    all[0].branch().map(str::to_owned)
}

#[tokio::test]
async fn a_branch_a_tag_and_the_beginning_of_a_commit_are_deployed() {
    let (app, world) = with_app(&[]).await;
    let demo = project(&app).await;
    world.push(11, "feature/x", &sha('b'));
    world.tags.lock().unwrap().insert("v1.0".into(), sha('c'));
    world.say(&sha('d'), "Long ago");
    for (reference, commit, branch) in [
        ("feature/x", 'b', "feature/x"),
        ("v1.0", 'c', "v1.0"),
        ("ddddddd", 'd', "main"),
        (&*sha('d'), 'd', "main"),
    ] {
        let made = deploy(&app, reference).await;
        assert!(made.location().contains("/deployments/"), "{reference}");
        assert_eq!(commits(&app, &demo).await[0], sha(commit), "{reference}");
        let newest = newest_branch(&app, &demo).await;
        assert_eq!(newest.as_deref(), Some(branch), "{reference}");
    }
    let before = commits(&app, &demo).await.len();
    for (reference, says) in [
        ("nothing", "no commit, tag or branch called “nothing”"),
        (&*sha('9'), "no commit, tag or branch"),
        ("a..b", "no name of a branch"),
    ] {
        let refused = deploy(&app, reference).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.body.contains(says), "{}", refused.body);
    }
    let mut api = Browser::with_token(&app, &testing::owner(&app).await).await;
    let mut post = async |commit: &str| {
        let body = json!({ "commit": commit });
        api.api(Method::POST, "/projects/demo/deployments", &body)
            .await
    };
    assert_eq!(
        post("nothing").await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(commits(&app, &demo).await.len(), before);
    assert_eq!(post("v1.0").await.status, StatusCode::CREATED);
    assert_eq!(commits(&app, &demo).await[0], sha('c'));
    // Without GitHub, a whole id is left to whoever fetches it.
    *world.away.lock().unwrap() = Some("repos/".into());
    assert_eq!(post(&sha('9')).await.status, StatusCode::CREATED);
    assert_eq!(post("v1.0").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn what_cannot_be_deployed_is_said_beside_the_field() {
    let (app, world) = with_app(&[]).await;
    let demo = project(&app).await;
    let refused = deploy(&app, "no<such>").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    for part in [
        "value=\"no&#60;such&#62;\"",
        "autofocus aria-invalid=\"true\" aria-describedby=\"reference-problem\"",
        "id=\"reference-problem\">octo/demo has no commit",
        "Deployment #1 is queued",
    ] {
        assert!(refused.body.contains(part), "{part}: {}", refused.body);
    }
    let asks = "/projects/demo/status?seen=";
    assert!(!refused.body.contains(asks), "the form would be sent again");

    *world.away.lock().unwrap() = Some("repos/".into());
    let away = deploy(&app, "feature/x").await;
    assert_eq!(away.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(away.body.contains("value=\"feature/x\""), "{}", away.body);
    assert!(away.body.contains("id=\"reference-problem\">"));
    *world.away.lock().unwrap() = None;

    sqlx::query("delete from github_connections")
        .execute(&app.db)
        .await
        .unwrap();
    let unreadable = deploy(&app, "main").await;
    assert_eq!(unreadable.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(unreadable.body.contains("id=\"reference-problem\">"));
    // Of the button without a field it stands on top.
    let unreadable = deploy(&app, "").await;
    assert_eq!(unreadable.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(unreadable.body.contains("role=\"alert\""));
    assert!(!unreadable.body.contains("aria-invalid"));
    assert_eq!(commits(&app, &demo).await, [sha('a')]);
}

#[tokio::test]
async fn a_new_project_begins_with_the_commit_that_was_named() {
    let (app, world) = with_app(&[]).await;
    project(&app).await;
    world.tags.lock().unwrap().insert("v1.0".into(), sha('c'));
    let mut api = Browser::with_token(&app, &testing::owner(&app).await).await;
    let mut make = async |more: Value| {
        let mut body = json!({ "name": "second", "github_repository": "octo/demo" });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        api.api(Method::POST, "/projects", &body).await
    };
    for more in [
        json!({ "commit": "nothing" }),
        json!({ "commit": ".." }),
        json!({ "commit": "v1.0", "github_repository": null }),
    ] {
        let refused = make(more).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused.value()["errors"][0]["field"], "commit");
    }
    let made = make(json!({ "commit": "v1.0" })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let (second, head) = {
        let mut db = app.db.acquire().await.unwrap();
        let second = projects::find_by_name(&mut db, "second").await.unwrap();
        let second = second.unwrap();
        let link = links::find(&mut db, second.id).await.unwrap();
        (second, link.unwrap().head)
    };
    assert_eq!(head, Some(sha('a')), "of the branch");
    assert_eq!(commits(&app, &second).await, [sha('c')]);
    // Neither a late delivery nor the clock brings the head that was there.
    tell(&app, "push", &push("main", &sha('a'))).await;
    work(&app).await;
    app.clock.advance(Duration::minutes(5));
    worker::compare(&app).await.unwrap();
    assert_eq!(commits(&app, &second).await, [sha('c')]);
    world.push(11, "main", &sha('b'));
    tell(&app, "push", &push("main", &sha('b'))).await;
    work(&app).await;
    assert_eq!(commits(&app, &second).await, [sha('b'), sha('c')]);
}

#[tokio::test]
async fn a_project_that_is_there_follows_a_repository_and_stops_again() {
    let (app, world) = with_app(&[]).await;
    project(&app).await;
    let other = testing::project(&app, "other").await;
    world.add(21, "octo/Other", &sha('b'));
    crate::github::installations::refresh(&app, super::stand_in::INSTALLATION)
        .await
        .unwrap();
    let mut api = Browser::with_token(&app, &testing::owner(&app).await).await;
    let path = "/projects/other/github";
    for (body, status) in [
        (json!({ "repository": "octo/none" }), StatusCode::NOT_FOUND),
        (json!({ "repository": 99 }), StatusCode::NOT_FOUND),
        (
            json!({ "repository": 21, "branch": "none" }),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (json!({}), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let refused = api.api(Method::PUT, path, &body).await;
        assert_eq!(refused.status, status, "{body} {}", refused.body);
    }
    let viewer = testing::member(&app, Role::Viewer).await;
    let mut looking = Browser::with_token(&app, &viewer).await;
    let body = json!({ "repository": "octo/other" });
    let refused = looking.api(Method::PUT, path, &body).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);

    let made = api.api(Method::PUT, path, &body).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.body);
    let made = made.value();
    assert_eq!(made["github"]["full_name"], "octo/Other");
    assert_eq!(made["source_url"], app.config.clone_url("octo/Other"));
    assert_eq!(made["source_branch"], "main");
    assert_eq!(commits(&app, &other).await.len(), 0, "nothing by itself");
    world.push(21, "main", &sha('c'));
    app.clock.advance(Duration::minutes(5));
    worker::compare(&app).await.unwrap();
    assert_eq!(commits(&app, &other).await, [sha('c')]);

    assert_eq!(
        looking.api(Method::DELETE, path, &Value::Null).await.status,
        StatusCode::FORBIDDEN
    );
    let gone = api.api(Method::DELETE, path, &Value::Null).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{}", gone.body);
    let again = api.api(Method::DELETE, path, &Value::Null).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    world.push(21, "main", &sha('d'));
    app.clock.advance(Duration::minutes(5));
    worker::compare(&app).await.unwrap();
    assert_eq!(commits(&app, &other).await, [sha('c')]);
}

#[tokio::test]
async fn the_page_connects_and_disconnects() {
    let (app, _world) = with_app(&[]).await;
    project(&app).await;
    testing::project(&app, "other").await;
    let mut browser = Browser::signed_in(&app).await;
    let settings = browser.get("/projects/other/settings").await;
    assert!(settings.body.contains("Connect a GitHub repository"));
    let form = browser.get("/projects/other/github").await;
    assert!(
        form.body.contains("<option value=\"octo/demo\">"),
        "{}",
        form.body
    );
    let csrf = form.field("csrf");
    let connect = "/projects/other/github/connect";
    let fields = [("csrf", &*csrf), ("repository", "octo/none")];
    let refused = browser.submit(connect, &fields).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        refused.body.contains("no such repository"),
        "{}",
        refused.body
    );
    let fields = [("csrf", &*csrf), ("repository", "octo/demo")];
    let made = browser.submit(connect, &fields).await;
    assert_eq!(made.location(), "/projects/other/github?done=connected");
    let page = browser.get("/projects/other/github").await.body;
    assert!(page.contains("Production branch"), "{page}");
    let settings = browser.get("/projects/other/settings").await;
    assert!(settings.body.contains("Pushes to octo/demo"));
    let path = "/projects/other/github/disconnect";
    let gone = browser.submit(path, &[("csrf", &*csrf)]).await;
    assert_eq!(gone.location(), "/projects/other/github?done=unlinked");
}

#[tokio::test]
async fn a_new_project_is_made_by_a_repositorys_name() {
    let (app, _world) = with_app(&[]).await;
    project(&app).await;
    let mut api = Browser::with_token(&app, &testing::owner(&app).await).await;
    let body = json!({ "name": "second", "github_repository": "Octo/Demo",
        "build": { "root_directory": "services/a" } });
    let made = api.api(Method::POST, "/projects", &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    assert_eq!(made.value()["github"]["repository"], 11);
    let build: Value = sqlx::query_scalar(
        "select d.build from deployments d join projects p on p.id = d.project_id
         where p.name = 'second'",
    )
    .fetch_one(&app.db)
    .await
    .unwrap();
    assert_eq!(build["root_directory"], "services/a");
    let found = api
        .api(
            Method::GET,
            "/github/repositories?search=DEMO",
            &Value::Null,
        )
        .await
        .value();
    assert_eq!(found["repositories"][0]["full_name"], "octo/demo");
}
