//! Who may call a project, through the API, the page and the edges' snapshot.

use edge::protocol::{Callers as At, Policy, Route};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::app::App;
use crate::organizations::Role;
use crate::testing::{self, Answer, Browser, app, home, member, owner, project, stranger};
use crate::{db, organizations, routes, service_accounts, users};

const PATH: &str = "/projects/hello/access";

async fn patch(browser: &mut Browser, change: &Value) -> Answer {
    browser.api(Method::PATCH, PATH, change).await
}

async fn version(app: &App) -> i64 {
    let mut db = app.db.acquire().await.unwrap();
    db::version(&mut db, Changed::Routes).await.unwrap()
}

/// What edges are told of the project `hello`.
async fn route(app: &App) -> Route {
    let mut tx = app.db.begin().await.unwrap();
    let snapshot = routes::snapshot(&mut tx, &app.config, app.clock.now())
        .await
        .unwrap();
    let found = snapshot
        .routes
        .into_iter()
        .find(|route| route.project_name == "hello");
    found.unwrap()
}

async fn account(app: &App, name: &str) -> service_accounts::ServiceAccount {
    let owner = owner(app).await;
    let mut db = app.db.acquire().await.unwrap();
    let organization = organizations::get_for(&mut db, owner.id, None)
        .await
        .unwrap();
    let actor = Actor::User(owner.id);
    service_accounts::create(&mut db, &organization, name, &actor, app.clock.now())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_project_begins_with_its_organization_and_keeps_what_a_change_does_not_name() {
    let app = app().await;
    project(&app, "hello").await;
    let owner = owner(&app).await;
    let mut browser = Browser::with_token(&app, &owner).await;
    let access = browser.api(Method::GET, PATH, &Value::Null).await.value();
    assert_eq!(
        (&access["mode"], &access["callers"], &access["chosen"]),
        (&json!("platform"), &json!("organization"), &json!([]))
    );
    assert_eq!(access["url"], "http://hello.localhost:8080/mcp");
    assert_eq!(access["key_url"], "http://hello--key.localhost:8080/mcp");

    let before = version(&app).await;
    let answer = patch(&mut browser, &json!({ "public_paths": ["/health", " /health ", ""], "allowed_origins": ["https://APP.example.com:443/"] })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.value()["public_paths"], json!(["/health"]));
    assert!(version(&app).await > before, "edges hear of it");
    let answer = patch(&mut browser, &json!({ "callers": "anyone" })).await;
    assert_eq!(answer.value()["public_paths"], json!(["/health"]));
    let told = route(&app).await;
    assert_eq!(told.allowed_origins, ["https://app.example.com"]);
    assert_eq!(
        told.policy,
        Policy::Platform {
            scope: "mcp".into(),
            callers: At::Anyone,
            public_paths: vec!["/health".into()],
        }
    );
    let before = version(&app).await;
    patch(&mut browser, &json!({ "callers": "anyone" })).await;
    assert_eq!(
        version(&app).await,
        before,
        "what is so already is no change"
    );

    let rows = browser.api(Method::GET, "/audit", &Value::Null).await;
    let rows = rows.value();
    let row = rows["audit"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["action"] == "project.access")
        .unwrap_or_else(|| panic!("{rows}"))
        .clone();
    assert_eq!(row["subject"]["callers"], "anyone");
}

#[tokio::test]
async fn modes_are_told_to_edges_and_shown() {
    let app = app().await;
    project(&app, "hello").await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    for (mode, policy) in [("public", Policy::Public), ("tenant", Policy::Tenant)] {
        let answer = patch(&mut browser, &json!({ "mode": mode })).await.value();
        assert!(
            answer["meaning"].as_str().unwrap().contains("everyone") || mode == "public",
            "{answer}"
        );
        assert_eq!(route(&app).await.policy, policy);
        let project = browser
            .api(Method::GET, "/projects/hello", &Value::Null)
            .await;
        assert_eq!(project.value()["access"], mode);
    }
}

#[tokio::test]
async fn input_that_cannot_be_meant_is_refused_with_a_sentence_and_changes_nothing() {
    let app = app().await;
    project(&app, "hello").await;
    let elsewhere = stranger(&app).await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    let before = browser.api(Method::GET, PATH, &Value::Null).await.value();
    let many: Vec<String> = (0..51).map(|n| format!("/p{n}")).collect();
    for (change, field, says) in [
        (json!({ "mode": "open" }), "body", "unknown variant"),
        (json!({ "callers": "all" }), "body", "unknown variant"),
        (json!({ "allow": [] }), "body", "unknown field"),
        (json!({ "public_paths": "/x" }), "body", "cannot be read"),
        (
            json!({ "callers": "chosen" }),
            "chosen",
            "Choose at least one person",
        ),
        (
            json!({ "callers": "chosen", "chosen": [] }),
            "chosen",
            "Choose at least one person",
        ),
        (
            json!({ "chosen": ["nobody@example.com"] }),
            "chosen",
            "neither a member nor a service account",
        ),
        (
            json!({ "chosen": [elsewhere.email] }),
            "chosen",
            "neither a member nor a service account",
        ),
        (
            json!({ "chosen": [elsewhere.id] }),
            "chosen",
            "neither a member nor a service account",
        ),
        (
            json!({ "public_paths": ["/mcp/x"] }),
            "public_paths",
            "where MCP is spoken",
        ),
        (
            json!({ "mode": "public", "public_paths": ["/ok", "../x"] }),
            "public_paths",
            "does not begin with /",
        ),
        (
            json!({ "public_paths": many }),
            "public_paths",
            "are the most",
        ),
        (
            json!({ "allowed_origins": ["*"] }),
            "allowed_origins",
            "name each origin",
        ),
        (
            json!({ "allowed_origins": ["https://a.example/x"] }),
            "allowed_origins",
            "is no origin",
        ),
    ] {
        let answer = patch(&mut browser, &change).await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{change} {}",
            answer.body
        );
        let problem = answer.value();
        assert_eq!(problem["errors"][0]["field"], field, "{change}");
        assert!(
            problem["detail"].as_str().unwrap().contains(says),
            "{change} {problem}"
        );
    }
    let after = browser.api(Method::GET, PATH, &Value::Null).await.value();
    assert_eq!(after, before);
}

#[tokio::test]
async fn only_who_may_change_the_project_changes_its_access() {
    let app = app().await;
    project(&app, "hello").await;
    for (role, status) in [
        (Role::Viewer, StatusCode::FORBIDDEN),
        (Role::Editor, StatusCode::OK),
        (Role::Admin, StatusCode::OK),
    ] {
        let user = member(&app, role).await;
        let mut browser = Browser::with_token(&app, &user).await;
        let answer = browser.api(Method::GET, PATH, &Value::Null).await;
        assert_eq!(answer.status, StatusCode::OK);
        let answer = patch(&mut browser, &json!({ "callers": "owner" })).await;
        assert_eq!(answer.status, status, "{role:?}");
    }
    let mut browser = Browser::with_token(&app, &stranger(&app).await).await;
    for method in [Method::GET, Method::PATCH] {
        let answer = browser.api(method, PATH, &json!({})).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn the_chosen_are_members_and_service_accounts_by_name() {
    let app = app().await;
    let hello = project(&app, "hello").await;
    let editor = member(&app, Role::Editor).await;
    let other = member(&app, Role::Editor).await;
    let job = account(&app, "job").await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    let change =
        json!({ "callers": "chosen", "chosen": [editor.email.to_uppercase(), "job", editor.id] });
    let answer = patch(&mut browser, &change).await.value();
    let ids: Vec<Uuid> = answer["chosen"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(ids.len(), 2, "{answer}");
    assert!(ids.contains(&editor.id) && ids.contains(&job.id));
    let Policy::Platform {
        callers: At::Only(told),
        ..
    } = route(&app).await.policy
    else {
        panic!("chosen")
    };
    assert!(told.contains(&editor.id) && told.contains(&job.id) && told.len() == 2);
    let mut db = app.db.acquire().await.unwrap();
    assert!(may_call(&mut db, editor.id, hello.id).await.unwrap());
    assert!(!may_call(&mut db, other.id, hello.id).await.unwrap());
    assert!(
        !may_call(&mut db, owner(&app).await.id, hello.id)
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn one_rule_says_who_may_call() {
    let app = app().await;
    let hello = project(&app, "hello").await;
    let home = home(&app).await;
    let owner = owner(&app).await.id;
    let editor = member(&app, Role::Editor).await.id;
    let viewer = member(&app, Role::Viewer).await.id;
    let outsider = stranger(&app).await.id;
    let job = account(&app, "job").await.id;
    let mut db = app.db.acquire().await.unwrap();
    let foreign = organizations::create(&mut db, "elsewhere", app.clock.now())
        .await
        .unwrap();
    let theirs = users::create(&mut db, "theirs@elsewhere.example", app.clock.now())
        .await
        .unwrap()
        .id;
    organizations::add_member(&mut db, foreign, theirs, Role::Owner)
        .await
        .unwrap();
    let organization = organizations::get_for(&mut db, theirs, None).await.unwrap();
    let actor = Actor::User(theirs);
    let foreign_job =
        service_accounts::create(&mut db, &organization, "job", &actor, app.clock.now())
            .await
            .unwrap()
            .id;
    assert_ne!(home, foreign);
    let all = [owner, editor, viewer, outsider, theirs, job, foreign_job];
    for (change, expected) in [
        (json!({ "callers": "owner" }), vec![owner]),
        (
            json!({ "callers": "organization" }),
            vec![owner, editor, viewer, job],
        ),
        (
            json!({ "callers": "chosen", "chosen": [viewer, job] }),
            vec![viewer, job],
        ),
        (
            json!({ "callers": "anyone" }),
            vec![owner, editor, viewer, outsider, theirs, job],
        ),
        (json!({ "mode": "public" }), vec![]),
        (json!({ "mode": "tenant" }), vec![]),
    ] {
        let wanted: Change = serde_json::from_value(change.clone()).unwrap();
        super::change(
            &mut db,
            &hello,
            &wanted,
            &Actor::User(owner),
            app.clock.now(),
        )
        .await
        .unwrap();
        for user in all {
            assert_eq!(
                may_call(&mut db, user, hello.id).await.unwrap(),
                expected.contains(&user),
                "{change} {user}"
            );
        }
    }
}

#[tokio::test]
async fn the_command_line_gets_a_token_only_where_one_is_needed_and_allowed() {
    let app = app().await;
    project(&app, "hello").await;
    let path = "/projects/hello/access-tokens";
    let mut owner = Browser::with_token(&app, &owner(&app).await).await;
    let mut editor = Browser::with_token(&app, &member(&app, Role::Editor).await).await;
    let answer = editor.api(Method::POST, path, &json!({})).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    assert!(answer.value()["access_token"].is_string());

    patch(&mut owner, &json!({ "callers": "owner" })).await;
    let answer = editor.api(Method::POST, path, &json!({})).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(
        answer.body.contains("look at hello but not call it"),
        "{}",
        answer.body
    );

    patch(&mut owner, &json!({ "mode": "public" })).await;
    let answer = editor.api(Method::POST, path, &json!({})).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.value(),
        json!({ "access_token": null, "resource": "http://hello.localhost:8080/mcp" })
    );

    patch(&mut owner, &json!({ "mode": "tenant" })).await;
    let answer = editor.api(Method::POST, path, &json!({})).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(
        answer.body.contains("decides itself who may call"),
        "{}",
        answer.body
    );
}

async fn submit(browser: &mut Browser, fields: &[(&str, &str)]) -> Answer {
    let page = browser.get("/projects/hello/access").await;
    let csrf = page.field("csrf");
    let mut all = vec![("csrf", csrf.as_str())];
    all.extend_from_slice(fields);
    browser.submit("/projects/hello/access", &all).await
}

#[tokio::test]
async fn the_page_asks_again_before_it_opens_a_project() {
    let app = app().await;
    project(&app, "hello").await;
    let mut browser = Browser::signed_in(&app).await;
    for (mode, says) in [
        (
            "public",
            "Everyone on the internet who learns the address may call",
        ),
        ("tenant", "Berth lets every request to hello through"),
    ] {
        let fields = [("mode", mode), ("callers", "organization")];
        let answer = submit(&mut browser, &fields).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.body.contains(says), "{}", answer.body);
        let stays = route(&app).await.policy;
        assert!(
            matches!(stays, Policy::Platform { .. }),
            "nothing has changed yet"
        );
        // A confirmation of one mode is none of another.
        let other = if mode == "public" { "tenant" } else { "public" };
        let answer = submit(&mut browser, &[fields[0], fields[1], ("confirm", other)]).await;
        assert_eq!(answer.status, StatusCode::OK);
        let answer = submit(&mut browser, &[fields[0], fields[1], ("confirm", mode)]).await;
        assert_eq!(answer.location(), "/projects/hello/access?done=saved");
        assert!(!matches!(route(&app).await.policy, Policy::Platform { .. }));
        // Going back is asked for once.
        let answer = submit(&mut browser, &[("mode", "platform"), fields[1]]).await;
        assert_eq!(answer.location(), "/projects/hello/access?done=saved");
    }
}

#[tokio::test]
async fn the_page_keeps_what_was_typed_and_says_what_is_wrong_beside_it() {
    let app = app().await;
    project(&app, "hello").await;
    let editor = member(&app, Role::Editor).await;
    let mut browser = Browser::signed_in(&app).await;
    let page = browser.get("/projects/hello/access").await;
    assert!(
        page.body
            .contains("None yet; <a href=\"/service-accounts\">"),
        "{}",
        page.body
    );
    let id = editor.id.to_string();
    let fields = [
        ("mode", "platform"),
        ("callers", "chosen"),
        ("chosen", id.as_str()),
        ("public_paths", "/health\r\n/mcp"),
        ("allowed_origins", "https://app.example.com"),
    ];
    let answer = submit(&mut browser, &fields).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        answer.body.contains("id=\"paths-problem\">"),
        "{}",
        answer.body
    );
    assert!(
        answer.body.contains("/health\r\n/mcp</textarea>"),
        "{}",
        answer.body
    );
    assert!(
        answer.body.contains(&format!("value=\"{id}\" checked")),
        "{}",
        answer.body
    );
    let fields = fields.map(|it| {
        if it.0 == "public_paths" {
            (it.0, "/health\r\n/hooks/*\r\n")
        } else {
            it
        }
    });
    let answer = submit(&mut browser, &fields).await;
    assert_eq!(answer.location(), "/projects/hello/access?done=saved");
    let page = browser.get(answer.location()).await;
    assert!(
        page.body.contains("/health\n/hooks/*</textarea>"),
        "{}",
        page.body
    );
    let Policy::Platform {
        public_paths,
        callers,
        ..
    } = route(&app).await.policy
    else {
        panic!("platform")
    };
    assert_eq!(public_paths, ["/health", "/hooks/*"]);
    assert_eq!(callers, At::Only(vec![editor.id]));

    // What the mode has no use for is kept for later.
    let fields = [
        ("mode", "public"),
        ("confirm", "public"),
        ("callers", "anyone"),
        ("public_paths", ""),
    ];
    submit(&mut browser, &fields).await;
    submit(
        &mut browser,
        &[
            ("mode", "platform"),
            ("callers", "chosen"),
            ("chosen", &id),
            ("public_paths", "/health"),
        ],
    )
    .await;
    let mut db = app.db.acquire().await.unwrap();
    let hello = crate::projects::find_by_name(&mut db, "hello")
        .await
        .unwrap()
        .unwrap();
    let now = get(&mut db, hello.id).await.unwrap();
    assert_eq!((now.callers, now.chosen.len()), (Callers::Chosen, 1));

    let mut guest = Browser::signed_in_as(&app, &member(&app, Role::Viewer).await.email).await;
    let page = guest.get("/projects/hello/access").await;
    assert!(
        page.body.contains("<fieldset disabled>") && !page.body.contains(">Save<"),
        "{}",
        page.body
    );
    let answer = submit(&mut guest, &[("mode", "public"), ("confirm", "public")]).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let mut outside = Browser::signed_in_as(&app, &testing::stranger(&app).await.email).await;
    assert_eq!(
        outside.get("/projects/hello/access").await.status,
        StatusCode::NOT_FOUND
    );
}
