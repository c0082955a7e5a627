//! Clients that are the URL of a document (Client ID Metadata Document).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration as StdDuration;

use async_trait::async_trait;
use outbound::{Document, Fault};
use time::Duration;

use super::*;
use crate::clients::Source;
use crate::clients::{self, Documents, Kind};

pub(super) const CLIENT: &str = "https://client.example/oauth/metadata.json";

/// A web of a few documents, which counts who asks.
#[derive(Clone, Default)]
pub(super) struct Web {
    pages: Arc<Mutex<BTreeMap<String, Result<Document, Fault>>>>,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl Source for Web {
    async fn json(&self, url: &str) -> Result<Document, Fault> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        // Gives others the time to ask for the same.
        tokio::task::yield_now().await;
        let pages = self.pages.lock().unwrap();
        pages.get(url).cloned().unwrap_or(Err(Fault::Status(404)))
    }
}

impl Web {
    pub(super) fn put(&self, url: &str, body: Value) {
        self.put_for(url, body, None);
    }

    fn put_for(&self, url: &str, body: Value, seconds: Option<u64>) {
        let fresh_for = seconds.map(StdDuration::from_secs);
        let document = Document { body, fresh_for };
        self.answer(url, Ok(document));
    }

    pub(super) fn answer(&self, url: &str, answer: Result<Document, Fault>) {
        self.pages.lock().unwrap().insert(url.to_owned(), answer);
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// What a native client publishes.
pub(super) fn document() -> Value {
    json!({
        "client_id": CLIENT,
        "client_name": "Example Client",
        "client_uri": "https://client.example/",
        "logo_uri": "https://client.example/logo.png",
        "redirect_uris": ["http://localhost/callback", "http://127.0.0.1/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
    })
}

/// A platform whose client is the one at [`CLIENT`].
pub(super) async fn scene() -> (Scene, Web) {
    let web = Web::default();
    let mut app = testing::app().await;
    app.documents = Arc::new(Documents::new(web.clone()));
    testing::project(&app, "hello").await;
    let scene = Scene {
        browser: Browser::signed_in(&app).await,
        client: Browser::new(&app),
        client_id: CLIENT.to_owned(),
        app,
    };
    web.put(CLIENT, document());
    (scene, web)
}

/// The status and text of the authorization page.
async fn shown(scene: &mut Scene) -> (u16, String) {
    let path = scene.request(&[]);
    let answer = scene.browser.get(&path).await;
    (answer.status.as_u16(), answer.body)
}

#[tokio::test]
async fn r31_a_document_is_a_client() {
    let (mut scene, web) = scene().await;
    let tokens = scene.tokens().await;
    let claims = claims(&scene.app, tokens["access_token"].as_str().unwrap());
    assert_eq!(claims["client_id"], CLIENT);
    let refresh = tokens["refresh_token"].as_str().unwrap();
    assert_eq!(scene.refresh(refresh).await.status, StatusCode::OK);
    assert_eq!(web.asked(), 1, "it is fetched once");
    let mut db = scene.app.db.acquire().await.unwrap();
    let client = clients::find(&mut db, CLIENT).await.unwrap().unwrap();
    assert_eq!(client.kind, Kind::Document);
    assert_eq!(client.name, "Example Client");
    assert_eq!(client.host().as_deref(), Some("client.example"));
    // What is not fresh is fetched again when somebody asks, also at the token endpoint.
    scene.app.clock.advance(Duration::hours(1));
    scene.tokens().await;
    assert_eq!(web.asked(), 2);
}

#[tokio::test]
async fn r31_ids_that_cannot_be_fetched_are_refused_unasked() {
    let (mut scene, web) = scene().await;
    for id in [
        "http://client.example/metadata.json",
        "https://client.example",
        "https://client.example/",
        "https://client.example:8443/metadata.json",
        "https://user@client.example/metadata.json",
        "https://client.example/metadata.json#x",
        "https://client.example/a/../metadata.json",
        "https://client.example/./metadata.json",
        "https://client.example/%2e%2e/metadata.json",
        "https://CLIENT.example/metadata.json",
        "https://127.0.0.1/metadata.json",
        "https://2130706433/metadata.json",
        "https://[::ffff:127.0.0.1]/metadata.json",
        "https://localhost/metadata.json",
        "file:///etc/passwd",
        "https://client.example/\0",
    ] {
        web.put(id, document());
        scene.client_id = id.to_owned();
        let (status, page) = shown(&mut scene).await;
        assert_eq!(status, 400, "{id}");
        assert!(page.contains("The client_id cannot be used"), "{id} {page}");
        let answer = scene.exchange("brg_x").await;
        assert_error(&answer, 401, "invalid_client");
    }
    assert_eq!(web.asked(), 0);
    // Nor is what no client is called a fault of ours.
    scene.client_id = "\0".to_owned();
    assert_eq!(shown(&mut scene).await.0, 400);
    assert_error(&scene.exchange("brg_x").await, 401, "invalid_client");
}

#[tokio::test]
async fn r31_documents_that_break_a_rule_are_refused_with_the_reason() {
    let with = |name: &str, value: Value| {
        let mut document = document();
        document[name] = value;
        document
    };
    let without = |name: &str| {
        let mut document = document();
        document.as_object_mut().unwrap().remove(name);
        document
    };
    let exactly = "is not exactly the URL";
    let secret = "holds a client_secret";
    let method = "must be none or private_key_jwt";
    let keys = "private_key_jwt needs jwks or jwks_uri";
    let cases = [
        (without("client_id"), exactly),
        (with("client_id", json!(format!("{CLIENT}/"))), exactly),
        (
            with(
                "client_id",
                json!("https://client.example/oauth/other.json"),
            ),
            exactly,
        ),
        (
            with(
                "client_id",
                json!("https://CLIENT.example/oauth/metadata.json"),
            ),
            exactly,
        ),
        (
            with(
                "client_id",
                json!("https://client.example:443/oauth/metadata.json"),
            ),
            exactly,
        ),
        (with("client_id", json!([CLIENT])), exactly),
        (with("client_secret", json!("s")), secret),
        (with("client_secret_expires_at", json!(0)), secret),
        (
            with("token_endpoint_auth_method", json!("client_secret_basic")),
            method,
        ),
        (
            with("token_endpoint_auth_method", json!("client_secret_post")),
            method,
        ),
        (
            with("token_endpoint_auth_method", json!("client_secret_jwt")),
            method,
        ),
        (
            with("token_endpoint_auth_method", json!("tls_client_auth")),
            method,
        ),
        (with("token_endpoint_auth_method", json!(7)), method),
        (
            with("token_endpoint_auth_method", json!("private_key_jwt")),
            keys,
        ),
        (without("redirect_uris"), "at least one URI"),
        (with("redirect_uris", json!([])), "at least one URI"),
        (
            with("redirect_uris", json!("http://localhost/callback")),
            "at least one URI",
        ),
        (
            with(
                "redirect_uris",
                json!(["http://localhost/callback", "javascript:alert(1)"]),
            ),
            "number 2 has a scheme",
        ),
        (
            with("redirect_uris", json!(["http://client.example/callback"])),
            "number 1 uses http",
        ),
        (
            with("response_types", json!(["token"])),
            "response_types must have code",
        ),
        (
            with("grant_types", json!(["client_credentials"])),
            "must have authorization_code",
        ),
        (json!([document()]), "not a JSON object"),
        (json!("x"), "not a JSON object"),
        (json!(null), "not a JSON object"),
    ];
    let (mut scene, web) = scene().await;
    for (body, reason) in cases {
        web.put(CLIENT, body.clone());
        // A failure is remembered for a minute, and one address may cause ten fetches in it.
        scene.app.clock.advance(Duration::MINUTE);
        let (status, page) = shown(&mut scene).await;
        assert_eq!(status, 400, "{body}");
        assert!(page.contains(reason), "{body}: {page}");
        let answer = scene.exchange("brg_x").await;
        assert_error(&answer, 401, "invalid_client");
        assert!(answer.body.contains(reason), "{}", answer.body);
        assert_eq!(scene.count("clients").await, 1, "nothing was kept");
    }
}

#[tokio::test]
async fn r31_failures_are_refused_remembered_for_a_minute_and_never_kept() {
    let (mut scene, web) = scene().await;
    for (number, fault) in [
        Fault::Forbidden,
        Fault::Status(302),
        Fault::Status(404),
        Fault::TooLarge,
        Fault::WrongType,
        Fault::NotJson,
        Fault::Unreachable,
        Fault::TimedOut,
        Fault::Status(503),
    ]
    .into_iter()
    .enumerate()
    {
        web.answer(CLIENT, Err(fault.clone()));
        scene.app.clock.advance(Duration::MINUTE);
        for _ in 0..3 {
            let (status, page) = shown(&mut scene).await;
            assert_eq!(status, 400, "{fault:?}");
            assert!(page.contains(&fault.to_string()), "{fault:?} {page}");
            assert_eq!(web.asked(), number + 1, "asked again at once");
            let answer = scene.exchange("brg_x").await;
            if fault.is_temporary() {
                // Not `invalid_client`, which makes clients throw away what they have.
                assert_error(&answer, 503, "temporarily_unavailable");
            } else {
                assert_error(&answer, 401, "invalid_client");
            }
        }
        assert_eq!(scene.count("clients").await, 1);
    }
    web.put(CLIENT, document());
    scene.app.clock.advance(Duration::MINUTE);
    assert_eq!(shown(&mut scene).await.0, 200);
}

#[tokio::test]
async fn r31_freshness_is_honoured_between_five_minutes_and_a_day() {
    for (said, minutes) in [
        (Some(0), 5),
        (Some(60), 5),
        (Some(600), 10),
        (None, 60),
        (Some(7_200), 120),
        (Some(10_000_000), 24 * 60),
    ] {
        let (scene, web) = scene().await;
        web.put_for(CLIENT, document(), said);
        let mut anyone = Browser::new(&scene.app);
        for (after, asked) in [
            (Duration::ZERO, 1),
            (Duration::minutes(minutes) - Duration::SECOND, 1),
            (Duration::SECOND, 2),
        ] {
            scene.app.clock.advance(after);
            let path = scene.request(&[]);
            // On to the sign-in page: the client is known.
            assert_eq!(anyone.get(&path).await.status, StatusCode::SEE_OTHER);
            assert_eq!(web.asked(), asked, "{said:?} {after}");
        }
    }
}

#[tokio::test]
async fn r31_a_document_that_vanished_or_turned_invalid_stops_the_client() {
    for answer in [
        Err(Fault::Status(404)),
        Err(Fault::Status(410)),
        Err(Fault::Forbidden),
        Err(Fault::NotJson),
        Ok(Document {
            body: json!({}),
            fresh_for: None,
        }),
    ] {
        let (mut scene, web) = scene().await;
        let tokens = scene.tokens().await;
        let refresh = tokens["refresh_token"].as_str().unwrap().to_owned();
        web.answer(CLIENT, answer);
        scene.app.clock.advance(Duration::hours(1));
        assert_error(&scene.refresh(&refresh).await, 401, "invalid_client");
        assert_eq!(shown(&mut scene).await.0, 400);
        // It works again when the document does.
        web.put(CLIENT, document());
        scene.app.clock.advance(Duration::MINUTE);
        assert_eq!(scene.refresh(&refresh).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn r31_a_host_that_is_away_stops_nobody_for_a_day() {
    let (mut scene, web) = scene().await;
    let mut refresh = scene.tokens().await["refresh_token"].clone();
    for hours in [1, 12, 12] {
        web.answer(CLIENT, Err(Fault::Unreachable));
        scene.app.clock.advance(Duration::hours(hours));
        let answer = scene.refresh(refresh.as_str().unwrap()).await;
        if answer.status != StatusCode::OK {
            assert_eq!(hours, 12);
            assert_error(&answer, 503, "temporarily_unavailable");
            return;
        }
        refresh = answer.value()["refresh_token"].clone();
    }
    panic!("a document is used for ever");
}

#[tokio::test]
async fn r30_redirects_are_those_of_the_current_document() {
    let (mut scene, web) = scene().await;
    // Any port on loopback.
    let other_port = [("redirect_uri", "http://127.0.0.1:5/callback")];
    let path = scene.request(&other_port);
    assert_eq!(scene.browser.get(&path).await.status, StatusCode::OK);
    let before = redirect_set(&scene).await;
    let mut document = document();
    document["redirect_uris"] = json!(["http://127.0.0.1/callback", "http://localhost/callback"]);
    web.put(CLIENT, document.clone());
    scene.app.clock.advance(Duration::hours(1));
    assert_eq!(scene.browser.get(&path).await.status, StatusCode::OK);
    assert_eq!(
        redirect_set(&scene).await,
        before,
        "the order does not matter"
    );
    document["redirect_uris"] = json!(["http://localhost/callback"]);
    web.put(CLIENT, document);
    scene.app.clock.advance(Duration::hours(1));
    assert_eq!(
        scene.browser.get(&path).await.status,
        StatusCode::BAD_REQUEST
    );
    assert_ne!(redirect_set(&scene).await, before);
}

async fn redirect_set(scene: &Scene) -> Vec<u8> {
    let mut db = scene.app.db.acquire().await.unwrap();
    let client = clients::find(&mut db, CLIENT).await.unwrap().unwrap();
    client.redirect_set_hash()
}

#[tokio::test]
async fn r34_a_person_is_asked_again_when_answers_may_go_elsewhere() {
    const SITE: &str = "https://client.example/callback";
    let (mut scene, web) = scene().await;
    let mut document = document();
    document["redirect_uris"] = json!([SITE]);
    web.put(CLIENT, document.clone());
    scene.decide(&[("redirect_uri", SITE)], "allow").await;
    let path = scene.request(&[("redirect_uri", SITE)]);
    assert_eq!(scene.browser.get(&path).await.status, StatusCode::SEE_OTHER);
    document["redirect_uris"] = json!([SITE, "https://elsewhere.example/cb"]);
    web.put(CLIENT, document);
    scene.app.clock.advance(Duration::hours(1));
    assert_eq!(scene.browser.get(&path).await.status, StatusCode::OK);
}

#[tokio::test]
async fn r31_many_who_ask_at_once_cause_one_fetch() {
    let (scene, web) = scene().await;
    let path = scene.request(&[]);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut browser, path) = (scene.browser.clone(), path.clone());
        asking.spawn(async move { browser.get(&path).await.status });
    }
    while let Some(status) = asking.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    assert_eq!(web.asked(), 1);
}

#[tokio::test]
async fn r31_one_address_cannot_make_us_fetch_without_end() {
    let (mut scene, web) = scene().await;
    for number in 0..11 {
        let id = format!("https://client.example/{number}.json");
        let mut document = document();
        document["client_id"] = json!(id);
        web.put(&id, document);
        scene.client_id = id;
        let expected = if number < 10 { 200 } else { 429 };
        assert_eq!(shown(&mut scene).await.0, expected, "{number}");
    }
    assert_eq!(web.asked(), 10);
    // Another address may, and what was fetched works for everybody.
    scene
        .browser
        .headers
        .insert("x-forwarded-for", "203.0.113.9".parse().unwrap());
    assert_eq!(shown(&mut scene).await.0, 200);
    scene.browser.headers.clear();
    assert_eq!(shown(&mut scene).await.0, 200);
    assert_eq!(web.asked(), 11);
}

#[tokio::test]
async fn documents_that_nobody_uses_are_forgotten() {
    let (mut scene, _) = scene().await;
    assert_eq!(shown(&mut scene).await.0, 200);
    assert_eq!(scene.count("clients").await, 2);
    scene.app.clock.advance(Duration::hours(25));
    let mut db = scene.app.db.acquire().await.unwrap();
    let now = scene.app.clock.now();
    assert_eq!(clients::purge_unused(&mut db, now).await.unwrap(), 1);
    assert_eq!(scene.count("clients").await, 1, "the command line's stays");
}
