//! Setting the App up, as an operator's browser meets it.

use http::StatusCode;

use super::stand_in::{KEY, platform, with_app};
use crate::github::registration::{self, FORMER_SECRET, SignUp};
use crate::organizations::{self, Role};
use crate::testing::{self, Answer, Browser};
use crate::{ids, users};

/// Begins at the page and gives the state that GitHub gets.
async fn begin(browser: &mut Browser) -> (Answer, String) {
    let csrf = browser.get("/settings/github").await.field("csrf");
    let fields = [("csrf", &*csrf), ("organization", "acme"), ("members", "1")];
    let form = browser.submit("/settings/github/manifest", &fields).await;
    assert_eq!(form.status, StatusCode::OK, "{}", form.body);
    let (_, rest) = form.body.split_once("settings/apps/new?state=").unwrap();
    let state = rest.split('"').next().unwrap().to_owned();
    (form, state)
}

#[tokio::test]
async fn the_manifest_goes_to_github_and_the_app_comes_back() {
    let (app, _world) = platform(&[]).await;
    let mut browser = Browser::signed_in(&app).await;
    let (form, state) = begin(&mut browser).await;
    let github = app.config.github();
    assert!(form.body.contains(&format!(
        "action=\"{github}/organizations/acme/settings/apps/new"
    )));
    assert!(form.body.contains("pull_requests"), "{}", form.body);
    let policy = form.header("content-security-policy");
    assert!(
        policy.contains(&format!("form-action 'self' {github}")),
        "{policy}"
    );
    let back = format!("/settings/github/created?code=good&state={state}");

    // Another browser's operator cannot finish it, and does not use it up.
    let mut other = Browser::signed_in(&app).await;
    assert_eq!(
        other.get(&back).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(
        browser.get(&back).await.location(),
        "/settings/github?done=saved"
    );
    assert_eq!(
        browser.get(&back).await.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "once"
    );
    let page = browser.get("/settings/github").await;
    assert!(page.body.contains("berth-test"));
    assert!(!page.body.contains("canary"), "{}", page.body);
    let mut db = app.db.acquire().await.unwrap();
    let found = registration::find(&mut db, &app.kek)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((found.id, found.sign_up), (7, SignUp::Nobody));
    assert!(!format!("{found:?}").contains("canary"));
}

#[tokio::test]
async fn a_bad_code_is_said_on_the_page() {
    let (app, _world) = platform(&[]).await;
    let mut browser = Browser::signed_in(&app).await;
    let (_, state) = begin(&mut browser).await;
    let answer = browser
        .get(&format!("/settings/github/created?code=bad&state={state}"))
        .await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(
        answer.body.contains("GitHub knows no such thing"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn an_app_that_is_there_is_checked_before_it_is_taken() {
    let (app, _world) = platform(&[]).await;
    let mut browser = Browser::signed_in(&app).await;
    let csrf = browser.get("/settings/github").await.field("csrf");
    let mut fields = vec![
        ("csrf", &*csrf),
        ("id", "7"),
        ("client_id", "Iv1.test"),
        ("client_secret", "canary-client-secret"),
        ("webhook_secret", "canary"),
        ("private_key", "nonsense"),
    ];
    let answer = browser.submit("/settings/github/existing", &fields).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.body.contains("private key cannot be read"));
    assert!(!answer.body.contains("canary"));
    fields[5].1 = &KEY;
    fields[1].1 = "8";
    let answer = browser.submit("/settings/github/existing", &fields).await;
    assert!(answer.body.contains("another App"), "{}", answer.body);
    fields[1].1 = "7";
    let answer = browser.submit("/settings/github/existing", &fields).await;
    assert_eq!(answer.location(), "/settings/github?done=saved");
    let answer = browser.submit("/settings/github/existing", &fields).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "one is enough");
}

#[tokio::test]
async fn only_who_runs_the_platform_sets_it_up() {
    let (app, _world) = with_app(&[]).await;
    let editor = testing::member(&app, Role::Editor).await;
    // Somebody with an organization of their own is nobody's operator.
    let owner = testing::stranger(&app).await;
    let mut db = app.db.acquire().await.unwrap();
    let own = organizations::create(&mut db, &ids::new_id().to_string(), app.clock.now())
        .await
        .unwrap();
    organizations::add_member(&mut db, own, owner.id, Role::Owner)
        .await
        .unwrap();
    for user in [editor, owner] {
        let mut browser = Browser::signed_in_as(&app, &user.email).await;
        for path in ["/settings/github", "/settings/github/deliveries"] {
            assert_eq!(
                browser.get(path).await.status,
                StatusCode::FORBIDDEN,
                "{path}"
            );
        }
        let csrf = browser.get("/account").await.field("csrf");
        for path in [
            "manifest", "existing", "secret", "sign-up", "allow", "remove",
        ] {
            let fields = [("csrf", &*csrf), ("sign_up", "nobody"), ("login", "x")];
            let answer = browser
                .submit(&format!("/settings/github/{path}"), &fields)
                .await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        }
    }
    assert!(users::find_owner(&mut db).await.unwrap().is_some());
}

#[tokio::test]
async fn the_former_webhook_secret_is_good_for_a_while() {
    let (app, _world) = with_app(&[]).await;
    let mut browser = Browser::signed_in(&app).await;
    let csrf = browser.get("/settings/github").await.field("csrf");
    let shown = browser
        .submit("/settings/github/secret", &[("csrf", &csrf)])
        .await;
    // The stand-in takes no new secret, so it is shown for the operator to enter.
    assert!(shown.body.contains("Enter it at the App"), "{}", shown.body);
    let mut db = app.db.acquire().await.unwrap();
    let found = registration::find(&mut db, &app.kek)
        .await
        .unwrap()
        .unwrap();
    assert!(shown.body.contains(found.webhook_secret.expose()));
    let now = app.clock.now();
    assert_eq!(found.webhook_secrets(now).len(), 2);
    assert_eq!(found.webhook_secrets(now + FORMER_SECRET).len(), 1);
}

#[tokio::test]
async fn strangers_are_let_in_only_where_a_setting_says_so() {
    let (app, _world) = with_app(&[]).await;
    let mut browser = Browser::signed_in(&app).await;
    let csrf = browser.get("/settings/github").await.field("csrf");
    let fields = [("csrf", &*csrf), ("sign_up", "anyone")];
    let answer = browser.submit("/settings/github/sign-up", &fields).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.body.contains("BERTH_ALLOW_STRANGERS"));
    let (app, _world) = with_app(&["--allow-strangers"]).await;
    let mut browser = Browser::signed_in(&app).await;
    let csrf = browser.get("/settings/github").await.field("csrf");
    let fields = [("csrf", &*csrf), ("sign_up", "anyone")];
    let answer = browser.submit("/settings/github/sign-up", &fields).await;
    assert_eq!(answer.location(), "/settings/github?done=saved");
}

#[tokio::test]
async fn removing_the_app_forgets_its_secrets() {
    let (app, _world) = with_app(&[]).await;
    let mut browser = Browser::signed_in(&app).await;
    let csrf = browser.get("/settings/github").await.field("csrf");
    browser
        .submit("/settings/github/remove", &[("csrf", &csrf)])
        .await
        .location();
    let mut db = app.db.acquire().await.unwrap();
    assert!(!registration::exists(&mut db).await.unwrap());
    let audit: Vec<String> = sqlx::query_scalar(
        "select action from audit_log where action like 'github_app.%' order by id",
    )
    .fetch_all(&mut *db)
    .await
    .unwrap();
    assert_eq!(audit, ["github_app.create", "github_app.remove"]);
}
