//! Tokens of installations, limits, and what is never shown.

use std::sync::atomic::Ordering;

use time::Duration;

use super::stand_in::{INSTALLATION, with_app};
use crate::github::client::{Call, Credential};
use crate::github::{Failure, installations, rest, tokens};

#[tokio::test]
async fn many_who_ask_at_once_cause_one_mint_and_it_lasts_until_it_nears_its_end() {
    let (app, world) = with_app(&[]).await;
    let asks = (0..50).map(|_| tokens::of_installation(&app, INSTALLATION));
    for token in futures_util::future::join_all(asks).await {
        assert_eq!(token.unwrap().secret.expose(), "ghs_canary_0");
    }
    assert_eq!(world.minted.load(Ordering::SeqCst), 1);
    app.clock.advance(Duration::minutes(54));
    tokens::of_installation(&app, INSTALLATION).await.unwrap();
    assert_eq!(world.minted.load(Ordering::SeqCst), 1);
    app.clock.advance(Duration::minutes(1));
    *world.now.lock().unwrap() = Some(app.clock.now());
    let next = tokens::of_installation(&app, INSTALLATION).await.unwrap();
    assert_eq!(next.secret.expose(), "ghs_canary_1");
    assert!(!format!("{next:?}").contains("canary"));
}

#[tokio::test]
async fn tokens_lie_encrypted_in_the_database() {
    let (app, _world) = with_app(&[]).await;
    tokens::of_installation(&app, INSTALLATION).await.unwrap();
    let mut db = app.db.acquire().await.unwrap();
    let all: Vec<String> = sqlx::query_scalar(
        "select t::text from github_tokens t union all select a::text from github_app a",
    )
    .fetch_all(&mut *db)
    .await
    .unwrap();
    assert_eq!(all.len(), 2);
    for row in all {
        let hidden = crate::crypto::hex(b"canary");
        assert!(!row.contains("canary") && !row.contains(&hidden), "{row}");
    }
}

#[tokio::test]
async fn a_limit_is_honoured_without_asking_again() {
    let (app, world) = with_app(&[]).await;
    for (status, header, value, wait) in [
        (429, "retry-after", "30".to_owned(), 30),
        (403, "retry-after", "7".to_owned(), 7),
        (403, "x-ratelimit-remaining", "0".to_owned(), 60),
    ] {
        *world.trouble.lock().unwrap() = Some((status, vec![(header, value)]));
        let failure = rest::find_account(&app, "octocat").await.unwrap_err();
        let until = app.clock.now() + Duration::seconds(wait);
        assert_eq!(failure, Failure::Limited { until });
        let asked = world.asked.lock().unwrap().len();
        *world.trouble.lock().unwrap() = None;
        assert!(rest::find_account(&app, "octocat").await.is_err());
        assert_eq!(world.asked.lock().unwrap().len(), asked, "nobody was asked");
        app.clock.advance(Duration::seconds(wait));
        assert!(rest::find_account(&app, "octocat").await.unwrap().is_some());
    }
}

#[tokio::test]
async fn trouble_is_told_apart() {
    let (app, world) = with_app(&[]).await;
    let path = ["users", "octocat"];
    let ask = || {
        app.github
            .client
            .ask::<serde_json::Value>(&Credential::None, Call::get(&path))
    };
    for (status, expected) in [
        (502, "Unavailable(\"GitHub answered 502.\")"),
        (401, "Unauthorized(\"trouble\")"),
        (403, "Refused(\"GitHub says: trouble\")"),
        (404, "NotFound"),
        (422, "Refused(\"GitHub says: trouble\")"),
    ] {
        *world.trouble.lock().unwrap() = Some((status, vec![]));
        assert_eq!(format!("{:?}", ask().await.unwrap_err()), expected);
    }
}

#[tokio::test]
async fn a_gone_installation_is_noted_by_the_refusal_of_its_token() {
    let (app, world) = with_app(&[]).await;
    let mut db = app.db.acquire().await.unwrap();
    let found: rest::Installation = serde_json::from_value(serde_json::json!({
        "id": INSTALLATION, "account": { "id": 1, "login": "o", "type": "User" } }))
    .unwrap();
    installations::keep(&mut db, &found, app.clock.now())
        .await
        .unwrap();
    *world.trouble.lock().unwrap() = Some((404, vec![]));
    assert_eq!(
        tokens::of_installation(&app, INSTALLATION)
            .await
            .unwrap_err(),
        Failure::NotFound
    );
    let state = installations::find_state(&mut db, INSTALLATION)
        .await
        .unwrap();
    assert_eq!(state.as_deref(), Some("deleted"));
}
