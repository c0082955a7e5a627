//! Signing in and out as a browser meets it.

use http::StatusCode;
use time::Duration;

use super::{new_password, sessions};
use crate::app::App;
use crate::audit::Actor;
use crate::error::Error;
use crate::github::identities;
use crate::testing::{self, Answer, Browser, OWNER, PASSWORD};
use crate::{members, organizations, users};

async fn sign_in(browser: &mut Browser, email: &str, password: &str) -> Answer {
    let csrf = browser.get("/signin").await.field("csrf");
    browser
        .submit(
            "/signin",
            &[("csrf", &csrf), ("email", email), ("password", password)],
        )
        .await
}

/// Whether the browser is signed in: the sign-in page sends it on.
async fn is_in(browser: &mut Browser) -> bool {
    browser.get("/signin").await.status.is_redirection()
}

#[tokio::test]
async fn the_right_password_signs_in_and_the_session_gets_another_id() {
    let app = testing::app().await;
    let mut browser = Browser::new(&app);
    let form = browser.get("/signin").await;
    let cookie = form.header("set-cookie").to_owned();
    for part in [
        "__Host-berth=",
        "HttpOnly",
        "SameSite=Lax",
        "Secure",
        "Path=/",
    ] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let before = browser.cookies.clone();
    let csrf = form.field("csrf");
    let fields = [
        ("csrf", &*csrf),
        ("email", " OWNER@localhost "),
        ("password", PASSWORD),
        ("next", "/new?x=1"),
    ];
    let answer = browser.submit("/signin", &fields).await;
    assert_eq!(answer.location(), "/new?x=1");
    assert_ne!(browser.cookies, before);
    assert!(is_in(&mut browser).await);

    // What was known of the session before signing in opens nothing now.
    let mut fixed = Browser::new(&app);
    fixed.cookies = before;
    assert!(!is_in(&mut fixed).await);
    assert_eq!(
        browser.submit("/signout", &[("csrf", &csrf)]).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_read_the_same() {
    let app = testing::app().await;
    let mut browser = Browser::new(&app);
    for (email, password) in [
        (OWNER, "wrong password"),
        ("nobody@example.com", PASSWORD),
        ("", ""),
        (OWNER, ""),
    ] {
        let answer = sign_in(&mut browser, email, password).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(
            answer
                .body
                .contains("E-mail or password is wrong; check both and try again."),
            "{}",
            answer.body
        );
        assert!(!is_in(&mut browser).await);
    }
}

#[tokio::test]
async fn an_address_that_is_not_ours_is_not_followed() {
    let app = testing::app().await;
    let mut browser = Browser::new(&app);
    let csrf = browser
        .get("/signin?next=//evil.example/")
        .await
        .field("csrf");
    let fields = [
        ("csrf", &*csrf),
        ("email", OWNER),
        ("password", PASSWORD),
        ("next", "//evil.example/"),
    ];
    assert_eq!(browser.submit("/signin", &fields).await.location(), "/");
    assert_eq!(
        browser
            .get("/signin?next=https://evil.example/")
            .await
            .location(),
        "/"
    );
}

#[tokio::test]
async fn guessing_is_slowed_by_address_and_account() {
    let app = testing::app().await;
    let mut browser = Browser::new(&app);
    for _ in 0..20 {
        assert_eq!(
            sign_in(&mut browser, OWNER, "wrong password").await.status,
            StatusCode::UNPROCESSABLE_ENTITY
        );
    }
    let refused = sign_in(&mut browser, OWNER, PASSWORD).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.header("retry-after"), "300");
    assert!(refused.body.contains("try again in 300 seconds"));
    let mut elsewhere = Browser::new(&app);
    elsewhere
        .headers
        .insert("x-forwarded-for", "203.0.113.7".parse().unwrap());
    assert_eq!(
        sign_in(&mut elsewhere, OWNER, PASSWORD).await.location(),
        "/"
    );
    app.clock.advance(Duration::minutes(5));
    assert_eq!(sign_in(&mut browser, OWNER, PASSWORD).await.location(), "/");
}

#[tokio::test]
async fn a_form_needs_the_sessions_token_and_our_own_origin() {
    let app = testing::app().await;
    let mut browser = Browser::new(&app);
    let csrf = browser.get("/signin").await.field("csrf");
    let fields = [("csrf", &*csrf), ("email", OWNER), ("password", PASSWORD)];
    let missing = browser.submit("/signin", &fields[1..]).await;
    assert_eq!(missing.status, StatusCode::FORBIDDEN);
    assert!(missing.body.contains("reload the page"));
    let foreign = browser
        .form("/signin", &fields, &[("origin", "https://evil.example")])
        .await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    assert!(foreign.body.contains("came from another site"));
    let other = Browser::new(&app).submit("/signin", &fields).await;
    assert_eq!(
        other.status,
        StatusCode::FORBIDDEN,
        "another browser's token"
    );
    let header = [("x-csrf-token", csrf.as_str()), ("origin", testing::ORIGIN)];
    assert_eq!(
        browser
            .form("/signin", &fields[1..], &header)
            .await
            .location(),
        "/"
    );
}

#[tokio::test]
async fn signing_out_ends_the_session_on_the_server() {
    let app = testing::app().await;
    let mut browser = Browser::signed_in(&app).await;
    let mut thief = browser.clone();
    let csrf = browser.get("/").await.field("csrf");
    let answer = browser.submit("/signout", &[("csrf", &csrf)]).await;
    assert_eq!(answer.location(), "/signin");
    let removals: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert!(removals.iter().any(|cookie| {
        cookie
            .to_str()
            .is_ok_and(|c| c.contains("Max-Age=0") && c.contains("Secure"))
    }));
    assert!(!is_in(&mut browser).await);
    assert!(!is_in(&mut thief).await);
}

#[tokio::test]
async fn a_session_ends_when_idle_and_after_a_week_in_any_case() {
    let app = testing::app().await;
    let mut browser = Browser::signed_in(&app).await;
    app.clock.advance(sessions::IDLE);
    assert!(!is_in(&mut browser).await);

    let mut browser = Browser::signed_in(&app).await;
    let half = sessions::IDLE - Duration::HOUR;
    let mut passed = Duration::ZERO;
    while passed + half < sessions::LONGEST {
        app.clock.advance(half);
        passed += half;
        assert!(is_in(&mut browser).await, "after {passed}");
    }
    app.clock.advance(sessions::LONGEST - passed);
    assert!(!is_in(&mut browser).await);
    let mut db = app.db.acquire().await.unwrap();
    super::purge_expired(&mut db, app.clock.now())
        .await
        .unwrap();
    let kept: i64 = sqlx::query_scalar("select count(*) from sessions where data ? 'user'")
        .fetch_one(&mut *db)
        .await
        .unwrap();
    assert_eq!(kept, 0);
}

/// A platform whose owner has no password yet, and the one-time link.
async fn fresh() -> (App, String) {
    let mut config = testing::config(&[]);
    config.owner_password = None;
    let app = testing::app_with(config).await;
    let mut db = app.db.acquire().await.unwrap();
    let token = users::create_setup_link(&mut db, app.clock.now())
        .await
        .unwrap()
        .unwrap();
    (app, format!("/setup/{token}"))
}

#[tokio::test]
async fn the_one_time_link_sets_the_password_once() {
    let (app, link) = fresh().await;
    let mut browser = Browser::new(&app);
    let form = browser.get(&link).await;
    assert!(form.body.contains(OWNER));
    let csrf = form.field("csrf");
    let short = browser
        .submit(&link, &[("csrf", &csrf), ("password", "too short")])
        .await;
    assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(short.body.contains("at least 10 characters"));
    let set = browser
        .submit(&link, &[("csrf", &csrf), ("password", PASSWORD)])
        .await;
    assert_eq!(set.location(), "/");
    assert!(is_in(&mut browser).await);

    let mut other = Browser::new(&app);
    let again = other.get(&link).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    assert!(again.body.contains("This link no longer works"));
    let csrf = other.get("/signin").await.field("csrf");
    let again = other
        .submit(&link, &[("csrf", &csrf), ("password", "another password")])
        .await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    assert_eq!(sign_in(&mut other, OWNER, PASSWORD).await.location(), "/");
    let mut db = app.db.acquire().await.unwrap();
    assert_eq!(
        users::create_setup_link(&mut db, app.clock.now())
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn the_one_time_link_expires() {
    let (app, link) = fresh().await;
    app.clock.advance(users::SETUP_LINK_LIFETIME);
    assert_eq!(
        Browser::new(&app).get(&link).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        Browser::new(&app).get("/setup/nonsense").await.status,
        StatusCode::NOT_FOUND
    );
}

const ANOTHER: &str = "another horse battery";

/// Sends the form of another password.
async fn change(browser: &mut Browser, current: &str, new: &str) -> Answer {
    let csrf = browser.get("/account").await.field("csrf");
    let fields = [("csrf", &*csrf), ("current", current), ("password", new)];
    browser.submit("/account/password", &fields).await
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it_and_signs_other_browsers_out() {
    let app = testing::app().await;
    let mut browser = Browser::signed_in(&app).await;
    let mut other = Browser::signed_in(&app).await;
    for (current, new, says) in [
        ("wrong password", ANOTHER, "This is not your password"),
        ("", ANOTHER, "This is not your password"),
        (PASSWORD, "too short", "at least 10 characters"),
    ] {
        let refused = change(&mut browser, current, new).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.body.contains(says), "{}", refused.body);
        assert!(!refused.body.contains(ANOTHER));
    }
    assert!(is_in(&mut other).await);

    let before = browser.cookies.clone();
    let changed = change(&mut browser, PASSWORD, ANOTHER).await;
    assert_eq!(changed.location(), "/account?done=password");
    assert!(is_in(&mut browser).await);
    assert!(!is_in(&mut other).await);
    // What was known of the session before is worth nothing.
    let mut copied = Browser::new(&app);
    copied.cookies = before;
    assert!(!is_in(&mut copied).await);
    assert_eq!(
        sign_in(&mut other, OWNER, PASSWORD).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(sign_in(&mut other, OWNER, ANOTHER).await.location(), "/");
    assert!(is_in(&mut browser).await);
}

#[tokio::test]
async fn a_password_that_was_changed_meanwhile_stays() {
    let app = testing::app().await;
    let owner = testing::owner(&app).await;
    let mut db = app.db.acquire().await.unwrap();
    let before = users::find_password(&mut db, owner.id).await.unwrap();
    for (seen, replaced) in [
        (None, false),
        (before.as_deref(), true),
        (before.as_deref(), false),
    ] {
        let done = users::replace_password(&mut db, owner.id, seen, "another hash").await;
        assert_eq!(done.unwrap(), replaced);
    }
}

#[tokio::test]
async fn an_open_browser_does_not_help_to_guess_the_password() {
    let app = testing::app().await;
    let mut browser = Browser::signed_in(&app).await;
    for _ in 0..20 {
        let refused = change(&mut browser, "wrong password", ANOTHER).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let refused = change(&mut browser, PASSWORD, ANOTHER).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn who_has_lost_their_way_in_gets_another_and_the_former_ends() {
    let app = testing::app().await;
    let owner = testing::owner(&app).await;
    let stranger = testing::stranger(&app).await;
    let mut browser = Browser::signed_in(&app).await;
    let mut theirs = Browser::signed_in_as(&app, &stranger.email).await;
    let mut db = app.db.acquire().await.unwrap();
    let account = crate::github::rest::Account {
        id: 583_231,
        login: "octocat".into(),
        kind: "User".into(),
    };
    identities::link(&mut db, owner.id, &account, app.clock.now())
        .await
        .unwrap();
    let token = new_password::reset(&mut db, owner.id, app.clock.now())
        .await
        .unwrap();
    // Nobody else may make a link for them, nor does the setting of the first start let them in again.
    let organization = organizations::get_for(&mut db, owner.id, None)
        .await
        .unwrap();
    let actor = Actor::User(owner.id);
    let renewed =
        members::renew_link(&mut db, &organization, owner.id, &actor, app.clock.now()).await;
    assert!(matches!(renewed, Err(Error::Conflict(_))), "{renewed:?}");
    users::ensure_owner(&mut db, &app.config, app.clock.now())
        .await
        .unwrap();
    let identity = identities::find_of(&mut db, owner.id).await.unwrap();
    assert_eq!(identity, None);
    assert!(!is_in(&mut browser).await);
    assert!(is_in(&mut theirs).await);
    assert_eq!(
        sign_in(&mut browser, OWNER, PASSWORD).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let link = format!("/setup/{token}");
    let csrf = browser.get(&link).await.field("csrf");
    let set = browser
        .submit(&link, &[("csrf", &csrf), ("password", ANOTHER)])
        .await;
    assert_eq!(set.location(), "/");
    assert!(is_in(&mut browser).await);
    let again = Browser::new(&app).get(&link).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn starting_again_changes_nothing() {
    let app = testing::app().await;
    let mut db = app.db.acquire().await.unwrap();
    let before = users::find_owner(&mut db).await.unwrap();
    users::ensure_owner(&mut db, &app.config, app.clock.now())
        .await
        .unwrap();
    assert_eq!(users::find_owner(&mut db).await.unwrap(), before);
    let people: i64 = sqlx::query_scalar("select count(*) from users")
        .fetch_one(&mut *db)
        .await
        .unwrap();
    assert_eq!(people, 1);
}

#[tokio::test]
async fn an_api_token_works_until_it_expires_or_is_revoked() {
    use crate::api_tokens::{self, NewToken};
    let app = testing::app().await;
    let owner = testing::owner(&app).await;
    let actor = Actor::User(owner.id);
    let now = app.clock.now();
    let mut db = app.db.acquire().await.unwrap();
    let new = NewToken::for_everything(owner.id, "ci", None);
    let (forever, first) = api_tokens::create(&mut db, new, &actor, now).await.unwrap();
    let new = NewToken::for_everything(owner.id, "short", Some(now + Duration::HOUR));
    let (_, second) = api_tokens::create(&mut db, new, &actor, now).await.unwrap();
    assert!(first.starts_with("brt_"));
    let found = api_tokens::authenticate(&mut db, &first, now)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((found.token, found.user), (forever, owner.clone()));
    let later = now + Duration::HOUR;
    assert!(
        api_tokens::authenticate(&mut db, &second, now)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        api_tokens::authenticate(&mut db, &second, later)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        api_tokens::authenticate(&mut db, "brt_nonsense", now)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        api_tokens::list(&mut db, owner.id, later)
            .await
            .unwrap()
            .len(),
        1
    );
    api_tokens::revoke(&mut db, owner.id, forever, &actor, now)
        .await
        .unwrap();
    assert!(
        api_tokens::authenticate(&mut db, &first, now)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        api_tokens::revoke(&mut db, owner.id, forever, &actor, now)
            .await
            .is_err()
    );
}
