//! Members through the API and the page.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::app::App;
use crate::grants::NewGrant;
use crate::projects::Project;
use crate::testing::{
    Answer, Browser, OWNER, PASSWORD, app, home, member, owner, project, stranger,
};
use crate::{access, db};

async fn add(browser: &mut Browser, email: &str, role: &str) -> Answer {
    let body = json!({ "email": email, "role": role });
    browser.api(Method::POST, "/members", &body).await
}

async fn set_role(browser: &mut Browser, who: &str, role: &str) -> Answer {
    let path = format!("/members/{who}");
    browser
        .api(Method::PATCH, &path, &json!({ "role": role }))
        .await
}

async fn remove(browser: &mut Browser, who: &str) -> Answer {
    let path = format!("/members/{who}");
    browser.api(Method::DELETE, &path, &Value::Null).await
}

/// Follows a one-time link to the password.
async fn set_up(app: &App, url: &str) -> Answer {
    let path = url.strip_prefix("http://localhost:8080").unwrap();
    let mut browser = Browser::new(app);
    let page = browser.get(path).await;
    if page.status != StatusCode::OK {
        return page;
    }
    let csrf = page.field("csrf");
    browser
        .submit(path, &[("csrf", &csrf), ("password", PASSWORD)])
        .await
}

#[tokio::test]
async fn someone_new_is_added_with_a_link_by_which_they_choose_their_password() {
    let app = app().await;
    project(&app, "hello").await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    let answer = add(&mut browser, " Ada@Example.com ", "editor").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    let added = answer.value();
    assert_eq!(added["email"], "Ada@Example.com");
    let url = added["setup_url"].as_str().unwrap().to_owned();
    let listed = browser
        .api(Method::GET, "/members", &Value::Null)
        .await
        .value();
    let row = listed["organizations"][0]["members"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["email"] == "Ada@Example.com")
        .unwrap()
        .clone();
    assert_eq!(
        (&row["role"], &row["invited"]),
        (&json!("editor"), &json!(true))
    );
    assert!(
        !listed.to_string().contains("/setup/"),
        "the link is shown once"
    );

    assert_eq!(set_up(&app, &url).await.location(), "/");
    assert_eq!(set_up(&app, &url).await.status, StatusCode::NOT_FOUND);
    let mut ada = Browser::signed_in_as(&app, "ada@example.com").await;
    assert_eq!(ada.get("/projects/hello").await.status, StatusCode::OK);
    let path = "/members/ada@example.com/setup-link";
    let answer = browser.api(Method::POST, path, &json!({})).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.body);
}

#[tokio::test]
async fn someone_known_is_just_added() {
    let app = app().await;
    let user = stranger(&app).await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    let answer = add(&mut browser, &user.email, "viewer").await;
    assert_eq!(answer.value()["setup_url"], Value::Null);
    let answer = add(&mut browser, &user.email, "admin").await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(
        answer.body.contains("change their role instead"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn a_link_is_only_given_out_for_who_belongs_nowhere_else() {
    let app = app().await;
    let mut db = app.db.acquire().await.unwrap();
    let foreign = organizations::create(&mut db, "elsewhere", app.clock.now())
        .await
        .unwrap();
    let theirs = users::create(&mut db, "theirs@example.com", app.clock.now())
        .await
        .unwrap();
    organizations::add_member(&mut db, foreign, theirs.id, Role::Owner)
        .await
        .unwrap();
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    // Somebody else may hold a link that sets their password.
    let answer = add(&mut browser, "theirs@example.com", "viewer").await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.body);
    users::set_password(&mut db, theirs.id, crate::testing::PASSWORD.to_owned())
        .await
        .unwrap();
    let answer = add(&mut browser, "theirs@example.com", "viewer").await;
    assert_eq!(answer.value()["setup_url"], Value::Null, "{}", answer.body);
    let path = "/members/theirs@example.com/setup-link";
    let answer = browser.api(Method::POST, path, &json!({})).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_new_link_ends_the_one_before_and_leaving_ends_both() {
    let app = app().await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    let first = add(&mut browser, "ada@example.com", "viewer").await.value();
    let path = "/members/ada@example.com/setup-link";
    let second = browser.api(Method::POST, path, &json!({})).await;
    assert_eq!(second.status, StatusCode::CREATED);
    let first = first["setup_url"].as_str().unwrap();
    assert_eq!(set_up(&app, first).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        remove(&mut browser, "ada@example.com").await.status,
        StatusCode::NO_CONTENT
    );
    let second = second.value()["setup_url"].as_str().unwrap().to_owned();
    assert_eq!(set_up(&app, &second).await.status, StatusCode::NOT_FOUND);
    let again = add(&mut browser, "ada@example.com", "viewer").await.value();
    let url = again["setup_url"].as_str().unwrap();
    assert_eq!(set_up(&app, url).await.location(), "/");
}

#[tokio::test]
async fn what_is_no_address_or_role_is_refused() {
    let app = app().await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    let long = format!("{}@example.com", "a".repeat(250));
    let placeholder = format!("job@{}.service.invalid", home(&app).await);
    for email in [
        "",
        "ada",
        "@",
        "a@",
        "@b",
        "a@b@c",
        "a b@c.example",
        "a@b\u{0}c",
        "Ada <a@b.example>",
        "a@b,c@d",
        &long,
        &placeholder,
    ] {
        let answer = add(&mut browser, email, "viewer").await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{email}");
        assert_eq!(answer.value()["errors"][0]["field"], "email");
    }
    for role in ["", "Owner", "root"] {
        let answer = add(&mut browser, "ada@example.com", role).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{role}");
        assert!(answer.body.contains("Choose a role"), "{}", answer.body);
    }
    let answer = browser
        .api(
            Method::POST,
            "/members",
            &json!({ "email": "ada@example.com", "role": "viewer", "organization": Uuid::nil() }),
        )
        .await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(
        set_role(&mut browser, "nobody@example.com", "viewer")
            .await
            .status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        remove(&mut browser, "nonsense").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn owners_manage_owners_admins_the_rest_and_nobody_else_anyone() {
    let app = app().await;
    let (no, ok) = (StatusCode::FORBIDDEN, StatusCode::OK);
    for (role, of_owner, of_others) in [
        (Role::Owner, ok, ok),
        (Role::Admin, no, ok),
        (Role::Editor, no, no),
        (Role::Viewer, no, no),
    ] {
        let mut browser = Browser::with_token(&app, &member(&app, role).await).await;
        let second = member(&app, Role::Owner).await;
        let editor = member(&app, Role::Editor).await;
        for (who, new, expected) in [
            (&editor.email, "viewer", of_others),
            (&editor.email, "admin", of_others),
            (&editor.email, "owner", of_owner),
            (&second.email, "editor", of_owner),
        ] {
            let answer = set_role(&mut browser, who, new).await;
            assert_eq!(
                answer.status, expected,
                "{role:?} makes {new}: {}",
                answer.body
            );
        }
        let status = |allowed: StatusCode, done| if allowed == ok { done } else { no };
        let name = role.name();
        let answer = add(&mut browser, &format!("new-{name}@example.com"), "viewer").await;
        assert_eq!(
            answer.status,
            status(of_others, StatusCode::CREATED),
            "{role:?}"
        );
        let answer = add(&mut browser, &format!("boss-{name}@example.com"), "owner").await;
        assert_eq!(
            answer.status,
            status(of_owner, StatusCode::CREATED),
            "{role:?}"
        );
        let boss = member(&app, Role::Owner).await;
        let answer = remove(&mut browser, &boss.email).await;
        assert_eq!(
            answer.status,
            status(of_owner, StatusCode::NO_CONTENT),
            "{role:?}"
        );
        let other = member(&app, Role::Viewer).await;
        let answer = remove(&mut browser, &other.email).await;
        assert_eq!(
            answer.status,
            status(of_others, StatusCode::NO_CONTENT),
            "{role:?}"
        );
    }
    let mut outside = Browser::with_token(&app, &stranger(&app).await).await;
    assert_eq!(
        add(&mut outside, "x@example.com", "viewer").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn an_admin_gets_no_link_of_an_owner() {
    let app = app().await;
    let mut owner = Browser::with_token(&app, &owner(&app).await).await;
    add(&mut owner, "boss@example.com", "owner").await;
    let mut admin = Browser::with_token(&app, &member(&app, Role::Admin).await).await;
    let path = "/members/boss@example.com/setup-link";
    let answer = admin.api(Method::POST, path, &json!({})).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_last_owner_stays() {
    let app = app().await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    for answer in [
        set_role(&mut browser, OWNER, "admin").await,
        remove(&mut browser, OWNER).await,
    ] {
        assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.body);
        assert!(answer.body.contains("last owner"), "{}", answer.body);
    }
    let second = member(&app, Role::Owner).await;
    assert_eq!(
        remove(&mut browser, OWNER).await.status,
        StatusCode::NO_CONTENT
    );
    let mut second = Browser::with_token(&app, &second).await;
    let id = second.api(Method::GET, "/me", &Value::Null).await.value();
    let answer = remove(&mut second, id["id"].as_str().unwrap()).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn two_owners_who_remove_each_other_at_once_leave_one() {
    let app = app().await;
    let other = member(&app, Role::Owner).await;
    let mut one = Browser::with_token(&app, &owner(&app).await).await;
    let mut two = Browser::with_token(&app, &other).await;
    let (first, second) = tokio::join!(remove(&mut one, &other.email), remove(&mut two, OWNER));
    let mut statuses = [first.status, second.status];
    statuses.sort();
    assert_eq!(statuses[0], StatusCode::NO_CONTENT);
    assert!(statuses[1] != StatusCode::NO_CONTENT);
}

async fn grant(app: &App, user: Uuid, project: &Project) -> Uuid {
    let resource = app.config.project_url(&project.name);
    let new = NewGrant {
        user,
        client_id: crate::clients::CLI_CLIENT,
        project,
        resource: &resource,
        scope: "mcp",
    };
    let mut db = app.db.acquire().await.unwrap();
    grants::create(&mut db, new, app.clock.now())
        .await
        .unwrap()
        .id
}

#[tokio::test]
async fn who_is_removed_calls_nothing_of_the_organization_that_is_not_for_everyone() {
    let app = app().await;
    let closed = project(&app, "closed").await;
    let open = project(&app, "open").await;
    let user = member(&app, Role::Editor).await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    for (name, change) in [
        (
            "closed",
            json!({ "callers": "chosen", "chosen": [user.email] }),
        ),
        ("open", json!({ "callers": "anyone" })),
    ] {
        let path = format!("/projects/{name}/access");
        let answer = browser.api(Method::PATCH, &path, &change).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
    let ended = grant(&app, user.id, &closed).await;
    let stays = grant(&app, user.id, &open).await;
    let mut db = app.db.acquire().await.unwrap();
    let before = db::version(&mut db, Changed::Routes).await.unwrap();
    let answer = remove(&mut browser, &user.email).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.body);
    assert!(db::version(&mut db, Changed::Routes).await.unwrap() > before);
    let revoked = grants::revoked_recently(&mut db, app.clock.now())
        .await
        .unwrap();
    assert!(revoked.contains(&ended) && !revoked.contains(&stays));
    let access = access::get(&mut db, closed.id).await.unwrap();
    assert!(access.chosen.is_empty());
    assert!(access::may_call(&mut db, user.id, open.id).await.unwrap());
    // Being added again does not bring back what was chosen.
    add(&mut browser, &user.email, "editor").await;
    assert!(!access::may_call(&mut db, user.id, closed.id).await.unwrap());
}

#[tokio::test]
async fn everybody_may_leave() {
    let app = app().await;
    project(&app, "hello").await;
    let viewer = member(&app, Role::Viewer).await;
    let mut browser = Browser::with_token(&app, &viewer).await;
    assert_eq!(
        remove(&mut browser, &viewer.id.to_string()).await.status,
        StatusCode::NO_CONTENT
    );
    let answer = browser.api(Method::GET, "/projects", &Value::Null).await;
    assert_eq!(answer.value()["projects"], json!([]));
}

async fn submit(browser: &mut Browser, path: &str, fields: &[(&str, &str)]) -> Answer {
    let csrf = browser.get("/tokens").await.field("csrf");
    let mut all = vec![("csrf", csrf.as_str())];
    all.extend_from_slice(fields);
    browser.submit(path, &all).await
}

#[tokio::test]
async fn the_page_adds_changes_and_removes() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app).await;
    let page = browser.get("/members").await;
    assert!(
        page.body.contains("Add someone") && page.body.contains(OWNER),
        "{}",
        page.body
    );
    let answer = submit(
        &mut browser,
        "/members",
        &[("email", "nonsense"), ("role", "viewer")],
    )
    .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        answer
            .body
            .contains("id=\"email-problem\">Give an e-mail address"),
        "{}",
        answer.body
    );
    assert!(
        answer.body.contains("value=\"nonsense\""),
        "{}",
        answer.body
    );

    let answer = submit(
        &mut browser,
        "/members",
        &[("email", "ada@example.com"), ("role", "viewer")],
    )
    .await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert!(
        answer.body.contains("Send this link to ada@example.com"),
        "{}",
        answer.body
    );
    assert!(
        answer.body.contains("http://localhost:8080/setup/"),
        "{}",
        answer.body
    );
    let page = browser.get("/members").await;
    assert!(!page.body.contains("/setup/"), "the link is shown once");
    assert!(
        page.body.contains("has not chosen a password yet"),
        "{}",
        page.body
    );

    let user = member(&app, Role::Editor).await;
    let path = format!("/members/{}", user.id);
    let answer = submit(&mut browser, &format!("{path}/role"), &[("role", "admin")]).await;
    assert_eq!(answer.location(), "/members?done=saved");
    let own = format!("/members/{}", owner(&app).await.id);
    let answer = submit(&mut browser, &format!("{own}/remove"), &[]).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(answer.body.contains("last owner"), "{}", answer.body);
    let answer = submit(&mut browser, &format!("{path}/remove"), &[]).await;
    assert_eq!(answer.location(), "/members?done=removed");
    let answer = submit(
        &mut browser,
        "/members",
        &[("email", &user.email), ("role", "viewer")],
    )
    .await;
    assert_eq!(answer.location(), "/members?done=added");

    let mut guest = Browser::signed_in_as(&app, &user.email).await;
    let page = guest.get("/members").await;
    assert!(
        !page.body.contains("Add someone") && !page.body.contains("/role?"),
        "{}",
        page.body
    );
    assert!(page.body.contains("Leave"), "{}", page.body);
    let answer = submit(&mut guest, &format!("{own}/remove"), &[]).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let answer = submit(&mut guest, &format!("{path}/remove"), &[]).await;
    assert_eq!(answer.location(), "/members?done=removed");
    let page = guest.get("/members").await;
    assert!(
        page.body.contains("You belong to no organization"),
        "{}",
        page.body
    );
}

#[tokio::test]
async fn forms_of_members_want_the_pages_token() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app).await;
    let id = Uuid::nil();
    for path in [
        "/members".to_owned(),
        format!("/members/{id}/role"),
        format!("/members/{id}/remove"),
        format!("/members/{id}/link"),
        "/service-accounts".to_owned(),
        format!("/service-accounts/{id}/delete"),
        format!("/service-accounts/{id}/tokens"),
        format!("/service-accounts/{id}/tokens/{id}/revoke"),
    ] {
        let answer = browser.submit(&path, &[("role", "viewer")]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
}
