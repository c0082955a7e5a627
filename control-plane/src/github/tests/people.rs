//! Signing in and up, and tying accounts to people.

use http::StatusCode;

use super::stand_in::{PERSON, with_app};
use crate::app::App;
use crate::audit::Actor;
use crate::github::identities;
use crate::github::registration::{self, SignUp};
use crate::testing::{self, Answer, Browser, OWNER};

/// Sends the browser to GitHub and gives the state.
async fn leave(browser: &mut Browser, page: &str, form: &str) -> String {
    let csrf = browser.get(page).await.field("csrf");
    let fields = [("csrf", &*csrf), ("next", "/new?x=1")];
    let away = browser.submit(form, &fields).await;
    assert!(
        away.location().contains("/login/oauth/authorize?"),
        "{}",
        away.location()
    );
    assert_eq!(
        away.parameter("code_challenge_method").as_deref(),
        Some("S256")
    );
    assert_eq!(
        away.parameter("redirect_uri").as_deref(),
        Some("http://localhost:8080/github/callback")
    );
    assert!(away.parameter("code_challenge").is_some());
    away.parameter("state").unwrap()
}

async fn come_back(browser: &mut Browser, state: &str) -> Answer {
    browser
        .get(&format!("/github/callback?code=good&state={state}"))
        .await
}

async fn sign_in(browser: &mut Browser) -> Answer {
    let state = leave(browser, "/signin", "/signin/github").await;
    come_back(browser, &state).await
}

async fn is_in(browser: &mut Browser) -> bool {
    browser.get("/signin").await.status.is_redirection()
}

async fn set_rule(app: &App, rule: SignUp) {
    let mut db = app.db.acquire().await.unwrap();
    registration::set_sign_up(&mut db, rule, true, &Actor::System, app.clock.now())
        .await
        .unwrap();
}

#[tokio::test]
async fn an_account_that_nobody_tied_signs_nobody_in() {
    let (app, world) = with_app(&[]).await;
    let mut browser = Browser::new(&app);
    let answer = sign_in(&mut browser).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.body.contains("this platform does not"));
    assert!(!is_in(&mut browser).await);
    let sent = &world.exchanged.lock().unwrap()[0];
    assert!(sent["code_verifier"].len() >= 43);
    assert_eq!(sent["client_secret"], "canary-client-secret");
}

#[tokio::test]
async fn whoever_tied_their_account_signs_in_with_it_under_any_name() {
    let (app, world) = with_app(&[]).await;
    let mut browser = Browser::signed_in(&app).await;
    let state = leave(&mut browser, "/account", "/account/github").await;
    assert_eq!(
        come_back(&mut browser, &state).await.location(),
        "/account?done=saved"
    );
    assert!(
        browser
            .get("/account")
            .await
            .body
            .contains("Connected as octocat")
    );

    *world.login.lock().unwrap() = "renamed".into();
    let mut other = Browser::new(&app);
    assert_eq!(sign_in(&mut other).await.location(), "/new?x=1");
    assert!(other.get("/account").await.body.contains(OWNER));
    assert!(
        other
            .get("/account")
            .await
            .body
            .contains("Connected as renamed")
    );

    // Nobody else may tie it, and a second one is not taken.
    let user = testing::stranger(&app).await;
    let mut thief = Browser::signed_in_as(&app, &user.email).await;
    let state = leave(&mut thief, "/account", "/account/github").await;
    assert_eq!(
        come_back(&mut thief, &state).await.status,
        StatusCode::CONFLICT
    );

    let csrf = browser.get("/account").await.field("csrf");
    browser
        .submit("/account/github/disconnect", &[("csrf", &csrf)])
        .await
        .location();
    assert_eq!(
        sign_in(&mut Browser::new(&app)).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn an_answer_is_for_the_browser_that_asked_once_and_in_time() {
    let (app, world) = with_app(&["--allow-strangers"]).await;
    set_rule(&app, SignUp::Anyone).await;
    let mut attacker = Browser::new(&app);
    let state = leave(&mut attacker, "/signin", "/signin/github").await;
    // The victim's browser is led to the attacker's answer.
    let mut victim = Browser::new(&app);
    assert_eq!(
        come_back(&mut victim, &state).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let mut victim = Browser::signed_in(&app).await;
    leave(&mut victim, "/account", "/account/github").await;
    assert_eq!(
        come_back(&mut victim, &state).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert!(
        world.exchanged.lock().unwrap().is_empty(),
        "GitHub was not asked"
    );
    assert_eq!(
        come_back(&mut attacker, &state).await.location(),
        "/new?x=1"
    );
    assert_eq!(
        come_back(&mut attacker, &state).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let mut slow = Browser::new(&app);
    let state = leave(&mut slow, "/signin", "/signin/github").await;
    app.clock.advance(crate::github::attempts::LIFETIME);
    assert_eq!(
        come_back(&mut slow, &state).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
}

#[tokio::test]
async fn a_tie_is_made_for_who_is_still_signed_in() {
    let (app, _world) = with_app(&[]).await;
    let mut browser = Browser::signed_in(&app).await;
    let state = leave(&mut browser, "/account", "/account/github").await;
    let csrf = browser.get("/account").await.field("csrf");
    browser.submit("/signout", &[("csrf", &csrf)]).await;
    let answer = come_back(&mut browser, &state).await;
    assert!(answer.status.is_client_error(), "{}", answer.status);
    let mut db = app.db.acquire().await.unwrap();
    let owner = testing::owner(&app).await;
    assert_eq!(identities::find_of(&mut db, owner.id).await.unwrap(), None);
}

#[tokio::test]
async fn those_on_the_list_sign_up_and_get_an_organization_of_their_own() {
    let (app, world) = with_app(&[]).await;
    set_rule(&app, SignUp::Listed).await;
    assert_eq!(
        sign_in(&mut Browser::new(&app)).await.status,
        StatusCode::FORBIDDEN
    );
    identities::allow(&app, "@octocat", &Actor::System)
        .await
        .unwrap();
    assert!(
        identities::allow(&app, "nobody", &Actor::System)
            .await
            .is_err()
    );
    assert!(
        identities::allow(&app, "../user", &Actor::System)
            .await
            .is_err()
    );
    let mut browser = Browser::new(&app);
    assert_eq!(sign_in(&mut browser).await.location(), "/new?x=1");
    let members = browser.get("/members").await;
    assert!(
        members.body.contains("Members of octocat"),
        "{}",
        members.body
    );
    assert_eq!(
        browser.get("/settings/github").await.status,
        StatusCode::FORBIDDEN
    );

    // It is their only way in.
    let csrf = browser.get("/account").await.field("csrf");
    let answer = browser
        .submit("/account/github/disconnect", &[("csrf", &csrf)])
        .await;
    assert_eq!(answer.status, StatusCode::CONFLICT);

    // The name alone lets nobody in: another number is another account.
    let mut db = app.db.acquire().await.unwrap();
    sqlx::query("update github_identities set github_id = 1")
        .execute(&mut *db)
        .await
        .unwrap();
    sqlx::query("update github_sign_up set account_id = 2 where account_id = $1")
        .bind(PERSON)
        .execute(&mut *db)
        .await
        .unwrap();
    assert_eq!(
        sign_in(&mut Browser::new(&app)).await.status,
        StatusCode::FORBIDDEN
    );

    // Members of an organization on the list, which is known by its number too.
    identities::allow(&app, "acme", &Actor::System)
        .await
        .unwrap();
    *world.organizations.lock().unwrap() = vec![(9_001, "acme".into())];
    assert_eq!(
        sign_in(&mut Browser::new(&app)).await.status,
        StatusCode::FORBIDDEN
    );
    *world.organizations.lock().unwrap() = vec![(9_000, "acme".into())];
    assert_eq!(
        sign_in(&mut Browser::new(&app)).await.location(),
        "/new?x=1"
    );
}

#[tokio::test]
async fn no_token_of_a_person_is_kept() {
    let (app, _world) = with_app(&["--allow-strangers"]).await;
    set_rule(&app, SignUp::Anyone).await;
    sign_in(&mut Browser::new(&app)).await.location();
    let mut db = app.db.acquire().await.unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "select quote_ident(table_name::text) from information_schema.tables
         where table_schema = 'public' and table_type = 'BASE TABLE'",
    )
    .fetch_all(&mut *db)
    .await
    .unwrap();
    for table in tables {
        let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "select count(*) from {table} t where t::text like '%ghu_canary%'"
        )))
        .fetch_one(&mut *db)
        .await
        .unwrap();
        assert_eq!(found, 0, "{table}");
    }
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_nothing_that_was_sent() {
    let (app, _world) = with_app(&[]).await;
    let mut browser = Browser::new(&app);
    let state = leave(&mut browser, "/signin", "/signin/github").await;
    let answer = browser
        .get(&format!("/github/callback?code=used&state={state}"))
        .await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(answer.body.contains("begin again"), "{}", answer.body);
    assert!(!answer.body.contains("canary"));
    let state = leave(&mut browser, "/signin", "/signin/github").await;
    let answer = browser
        .get(&format!(
            "/github/callback?error=access_denied&state={state}"
        ))
        .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.body.contains("You declined at GitHub"));
}
