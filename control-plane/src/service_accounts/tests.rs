//! Service accounts through the API and the pages; and that they are nobody.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::app::App;
use crate::organizations::Role;
use crate::testing::{Answer, Browser, PASSWORD, app, home, member, owner, project, stranger};
use crate::{crypto, db, organizations, routes, users};

async fn create_job(browser: &mut Browser) -> Value {
    let body = json!({ "name": "job" });
    let answer = browser.api(Method::POST, "/service-accounts", &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    answer.value()
}

async fn snapshot(app: &App) -> edge::protocol::RouteSnapshot {
    let mut tx = app.db.begin().await.unwrap();
    routes::snapshot(&mut tx, &app.config, app.clock.now())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_service_account_has_tokens_for_calls_that_end_with_it() {
    let app = app().await;
    let hello = project(&app, "hello").await;
    project(&app, "other").await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    let account = create_job(&mut browser).await;
    let path = "/service-accounts/job/tokens";
    let body = json!({ "name": "nightly", "projects": ["hello"], "expires_in_days": 30 });
    let answer = browser.api(Method::POST, path, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    let token = answer.value()["token"].as_str().unwrap().to_owned();
    let listed = browser.api(Method::GET, path, &Value::Null).await.value();
    assert_eq!(listed["tokens"][0]["good_for"], "calls");
    assert_eq!(listed["tokens"][0]["projects"], json!(["hello"]));

    let told = snapshot(&app).await;
    let hash = crypto::hex(&crypto::sha256(&token));
    let known = told.api_tokens.iter().find(|it| it.hash == hash).unwrap();
    assert_eq!(known.user.to_string(), account["id"].as_str().unwrap());
    assert_eq!(known.projects, Some(vec![hello.id]));
    let user = told.users.iter().find(|it| it.id == known.user).unwrap();
    assert_eq!(user.email, None);

    let answer = Browser::showing(&app, &token)
        .api(Method::GET, "/me", &Value::Null)
        .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);

    let mut db = app.db.acquire().await.unwrap();
    let before = db::version(&mut db, Changed::Routes).await.unwrap();
    let answer = browser
        .api(Method::DELETE, "/service-accounts/job", &Value::Null)
        .await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert!(db::version(&mut db, Changed::Routes).await.unwrap() > before);
    let told = snapshot(&app).await;
    assert!(told.api_tokens.iter().all(|it| it.hash != hash));
    assert!(told.users.iter().all(|it| it.id != known.user));
    let answer = Browser::showing(&app, &token)
        .api(Method::GET, "/me", &Value::Null)
        .await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_a_service_account_cannot_have_is_refused() {
    let app = app().await;
    project(&app, "hello").await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    create_job(&mut browser).await;
    let long = "a".repeat(41);
    for name in ["", "Job", "a b", "-a", "a-", "a@b", "ü", &long] {
        let body = json!({ "name": name });
        let answer = browser.api(Method::POST, "/service-accounts", &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
    }
    let body = json!({ "name": "job" });
    let answer = browser.api(Method::POST, "/service-accounts", &body).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.body);
    let path = "/service-accounts/job/tokens";
    for (body, field) in [
        (json!({ "name": "x", "good_for": "everything" }), "good_for"),
        (json!({ "name": "x", "projects": ["nothing"] }), "projects"),
        (json!({ "name": "x", "projects": [] }), "projects"),
        (json!({ "name": "" }), "name"),
        (
            json!({ "name": "x", "expires_in_days": 0 }),
            "expires_in_days",
        ),
    ] {
        let answer = browser.api(Method::POST, path, &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(answer.value()["errors"][0]["field"], field, "{body}");
    }
    let answer = browser
        .api(
            Method::POST,
            "/service-accounts/none/tokens",
            &json!({ "name": "x" }),
        )
        .await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn owners_and_admins_manage_them() {
    let app = app().await;
    let mut owner = Browser::with_token(&app, &owner(&app).await).await;
    create_job(&mut owner).await;
    for (role, manages) in [
        (Role::Admin, true),
        (Role::Editor, false),
        (Role::Viewer, false),
    ] {
        let mut browser = Browser::with_token(&app, &member(&app, role).await).await;
        let listed = browser
            .api(Method::GET, "/service-accounts", &Value::Null)
            .await;
        let listed = listed.value();
        let accounts = listed["service_accounts"].as_array().unwrap();
        assert!(accounts.iter().any(|it| it["name"] == "job"), "{listed}");
        let body = json!({ "name": role.name() });
        let answer = browser.api(Method::POST, "/service-accounts", &body).await;
        let expected = if manages {
            StatusCode::CREATED
        } else {
            StatusCode::FORBIDDEN
        };
        assert_eq!(answer.status, expected, "{role:?}");
        let path = "/service-accounts/job/tokens";
        let answer = browser.api(Method::GET, path, &Value::Null).await;
        let expected = if manages {
            StatusCode::OK
        } else {
            StatusCode::NOT_FOUND
        };
        assert_eq!(answer.status, expected, "{role:?}");
    }
    let mut outside = Browser::with_token(&app, &stranger(&app).await).await;
    let listed = outside
        .api(Method::GET, "/service-accounts", &Value::Null)
        .await;
    assert_eq!(listed.value()["service_accounts"], json!([]));
    for (method, path) in [
        (Method::DELETE, "/service-accounts/job"),
        (Method::GET, "/service-accounts/job/tokens"),
    ] {
        let answer = outside.api(method, path, &Value::Null).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_service_account_is_no_person() {
    let app = app().await;
    project(&app, "hello").await;
    let boss = owner(&app).await;
    let mut browser = Browser::with_token(&app, &boss).await;
    let account = create_job(&mut browser).await;
    let placeholder = format!("job@{}.service.invalid", home(&app).await);
    let mut db = app.db.acquire().await.unwrap();
    assert_eq!(
        users::find_by_email(&mut db, &placeholder).await.unwrap(),
        None
    );
    let id = account["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(users::find(&mut db, id).await.unwrap(), None);
    assert_eq!(users::find_owner(&mut db).await.unwrap(), Some(boss));
    // Even with a password it could not sign in.
    users::set_password(&mut db, id, PASSWORD.to_owned())
        .await
        .unwrap();
    let found = users::verify_password(&app.db, &placeholder, PASSWORD.to_owned()).await;
    assert_eq!(found.unwrap(), None);
    let members = organizations::list_members(&mut db, home(&app).await)
        .await
        .unwrap();
    assert_eq!(members.len(), 1);
}

async fn submit(browser: &mut Browser, path: &str, fields: &[(&str, &str)]) -> Answer {
    let csrf = browser.get("/tokens").await.field("csrf");
    let mut all = vec![("csrf", csrf.as_str())];
    all.extend_from_slice(fields);
    browser.submit(path, &all).await
}

#[tokio::test]
async fn the_pages_create_show_and_delete() {
    let app = app().await;
    project(&app, "hello").await;
    let mut browser = Browser::signed_in(&app).await;
    let page = browser.get("/service-accounts").await;
    assert!(page.body.contains("None yet."), "{}", page.body);
    let answer = submit(&mut browser, "/service-accounts", &[("name", "My Job")]).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        answer
            .body
            .contains("id=\"name-problem\">A service account")
            && answer.body.contains("value=\"My Job\""),
        "{}",
        answer.body
    );
    let answer = submit(&mut browser, "/service-accounts", &[("name", "job")]).await;
    let path = answer.location().to_owned();
    let page = browser.get(&path).await;
    assert!(
        page.body.contains("None yet.") && !page.body.contains("value=\"everything\""),
        "{}",
        page.body
    );
    let tokens = format!("{path}/tokens");
    let fields = [("name", "ci"), ("days", "30"), ("good_for", "projects")];
    let answer = submit(&mut browser, &tokens, &fields).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        answer.body.contains("Choose at least one project"),
        "{}",
        answer.body
    );
    let fields = [fields[0], fields[1], fields[2], ("project", "hello")];
    let answer = submit(&mut browser, &tokens, &fields).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert!(
        answer.body.contains("http://hello--key.localhost:8080/mcp")
            && answer.body.contains("Calls of hello"),
        "{}",
        answer.body
    );
    let page = browser.get("/service-accounts").await;
    assert!(page.body.contains("1 token<"), "{}", page.body);
    let answer = submit(&mut browser, &format!("{path}/delete"), &[]).await;
    assert_eq!(answer.location(), "/service-accounts?done=removed");
    assert_eq!(browser.get(&path).await.status, StatusCode::NOT_FOUND);

    let mut guest = Browser::signed_in_as(&app, &member(&app, Role::Editor).await.email).await;
    let page = guest.get("/service-accounts").await;
    assert!(
        page.body
            .contains("Owners and admins of the organization create them"),
        "{}",
        page.body
    );
    let answer = submit(&mut guest, "/service-accounts", &[("name", "mine")]).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn its_oauth_clients_are_made_shown_once_and_deleted() {
    let app = app().await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    create_job(&mut browser).await;
    let path = "/service-accounts/job/clients";
    let answer = browser
        .api(Method::POST, path, &json!({ "name": "nightly" }))
        .await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    let made = answer.value();
    let secret = made["client_secret"].as_str().unwrap();
    assert_eq!(made["token_url"], "http://localhost:8080/oauth/token");
    let listed = browser.api(Method::GET, path, &Value::Null).await;
    assert!(!listed.body.contains(secret));
    let id = made["client_id"].as_str().unwrap();
    assert_eq!(listed.value()["clients"][0]["id"], id);
    let body = json!({ "name": "x", "jwks": { "keys": [] } });
    let answer = browser.api(Method::POST, path, &body).await;
    assert_eq!(
        answer.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        answer.body
    );
    let mut editor = Browser::with_token(&app, &member(&app, Role::Editor).await).await;
    for method in [Method::GET, Method::POST] {
        let answer = editor.api(method, path, &json!({ "name": "x" })).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
    let one = format!("{path}/{id}");
    let answer = browser.api(Method::DELETE, &one, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let answer = browser.api(Method::DELETE, &one, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);

    let mut browser = Browser::signed_in(&app).await;
    let page = browser.get("/service-accounts/job").await;
    assert!(
        page.body.contains("None yet. A program needs one"),
        "{}",
        page.body
    );
    let form = "/service-accounts/job/clients";
    let answer = submit(&mut browser, form, &[("name", "a"), ("jwks", "{")]).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        answer.body.contains("The keys are no JSON"),
        "{}",
        answer.body
    );
    let answer = submit(&mut browser, form, &[("name", "a"), ("jwks", "")]).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert!(answer.body.contains("brs_"), "{}", answer.body);
    let page = browser.get("/service-accounts/job").await;
    assert!(
        !page.body.contains("brs_") && page.body.contains("Shows a secret"),
        "{}",
        page.body
    );
}
