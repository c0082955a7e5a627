//! What the connection timeline is told of clients that connect and of those that fail.

use super::*;
use crate::connections::{self, Attempt, Failure, Standing, Step};
use crate::testing::{OWNER, PASSWORD};

const CLIENT: &str = "fastmcp/4.1.2";

impl Scene {
    /// A scene whose client and browser say what they are.
    async fn observed() -> Self {
        let mut scene = Self::new().await;
        let agent = |name: &'static str| (http::header::USER_AGENT, name.parse().unwrap());
        scene.client.headers.extend([agent(CLIENT)]);
        scene.browser.headers.extend([agent("Mozilla/5.0")]);
        scene
    }

    async fn told(&self) -> Vec<Attempt> {
        connections::flush(&self.app).await;
        let mut db = self.app.db.acquire().await.unwrap();
        let hello = crate::projects::find_by_name(&mut db, "hello")
            .await
            .unwrap()
            .unwrap();
        connections::list(&mut db, hello.id, self.app.clock.now())
            .await
            .unwrap()
    }

    /// The newest reason of the newest attempt.
    async fn reason(&self) -> Standing {
        self.told().await[0].standing
    }
}

fn steps(attempt: &Attempt) -> Vec<(Step, Option<Failure>)> {
    attempt
        .events
        .iter()
        .map(|event| (event.step, event.failure))
        .collect()
}

#[tokio::test]
async fn every_step_of_a_client_that_works_is_told_without_its_secrets() {
    let mut scene = Scene::observed().await;
    // Before it asks: on its own, without a project.
    scene
        .client
        .get("/.well-known/oauth-authorization-server")
        .await;
    // Signed out, as most people are when a client sends them.
    let mut browser = Browser::new(&scene.app);
    let path = scene.request(&[]);
    let signin = browser.get(&path).await.location().to_owned();
    let csrf = browser.get(&signin).await.field("csrf");
    let fields = [
        ("csrf", csrf.as_str()),
        ("email", OWNER),
        ("password", PASSWORD),
        ("next", &path),
    ];
    browser.submit("/signin", &fields).await;
    scene.browser = browser;
    let code = scene.code().await;
    let tokens = scene.exchange(&code).await.value();
    let refresh = tokens["refresh_token"].as_str().unwrap().to_owned();
    scene.refresh(&refresh).await;

    let told = scene.told().await;
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0].client, "FastMCP Client");
    assert_eq!(told[0].client_id.as_ref(), Some(&scene.client_id));
    assert_eq!(told[0].user.as_deref(), Some(OWNER));
    assert_eq!(told[0].standing, Standing::Underway);
    let told: Vec<Step> = told[0].events.iter().map(|event| event.step).collect();
    for step in [
        Step::Registered,
        Step::ServerMetadata,
        Step::Authorize,
        Step::SignedIn,
        Step::ConsentShown,
        Step::Consent,
        Step::CodeExchanged,
        Step::Refreshed,
    ] {
        assert!(told.contains(&step), "{step:?}: {told:?}");
    }
    let kept: String =
        sqlx::query_scalar("select string_agg(t::text, ' ') from connection_steps t")
            .fetch_one(&scene.app.db)
            .await
            .unwrap();
    for secret in [
        &*code,
        &refresh,
        VERIFIER,
        &challenge(),
        PASSWORD,
        "127.0.0.1",
    ] {
        assert!(!kept.contains(secret), "{secret} is in the timeline");
    }
}

#[tokio::test]
async fn what_is_wrong_with_an_authorization_request_is_told_by_its_code() {
    let scene = Scene::observed().await;
    let mut browser = scene.browser.clone();
    for (changed, failure) in [
        (
            ("redirect_uri", "https://evil.example/?s=1"),
            Failure::RedirectUriMismatch,
        ),
        (("client_id", "brc_gone"), Failure::ClientUnknown),
        (("code_challenge", ""), Failure::PkceMissing),
        (("code_challenge_method", "plain"), Failure::PkceMissing),
        (("response_type", "token"), Failure::RequestInvalid),
        (("prompt", "none"), Failure::InteractionNeeded),
    ] {
        scene.app.clock.advance(time::Duration::HOUR);
        browser.get(&scene.request(&[changed])).await;
        assert_eq!(
            scene.reason().await,
            Standing::Failed(failure),
            "{changed:?}"
        );
    }
    let told = scene.told().await;
    let details: Vec<&str> = told
        .iter()
        .flat_map(|attempt| &attempt.events)
        .filter_map(|event| event.detail.as_deref())
        .collect();
    assert!(
        details.contains(&"it asked for its answer at “https://evil.example/”"),
        "{details:?}"
    );
}

#[tokio::test]
async fn a_resource_of_nowhere_joins_the_client_that_asked_for_it() {
    let scene = Scene::observed().await;
    let mut browser = scene.browser.clone();
    browser.get(&scene.request(&[])).await;
    browser
        .get(&scene.request(&[("resource", "http://other.localhost:8080/mcp")]))
        .await;
    assert_eq!(
        scene.reason().await,
        Standing::Failed(Failure::ResourceUnknown)
    );
}

#[tokio::test]
async fn a_stranger_and_a_no_are_told() {
    let mut scene = Scene::observed().await;
    let stranger = testing::stranger(&scene.app).await;
    let mut other = Browser::signed_in_as(&scene.app, &stranger.email).await;
    other.get(&scene.request(&[])).await;
    assert_eq!(scene.reason().await, Standing::Failed(Failure::NoAccess));
    scene.decide(&[], "deny").await;
    assert_eq!(
        scene.reason().await,
        Standing::Failed(Failure::ConsentDenied)
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_token_request_is_told_by_its_code() {
    let mut scene = Scene::observed().await;
    let resource = ("resource", RESOURCE);
    for (changed, failure) in [
        (("code_verifier", "A".repeat(43)), Failure::VerifierWrong),
        (
            ("redirect_uri", "http://localhost:1/callback".to_owned()),
            Failure::RedirectUriChanged,
        ),
        (("code", "unknown".to_owned()), Failure::CodeInvalid),
        (
            ("grant_type", "password".to_owned()),
            Failure::GrantTypeRefused,
        ),
    ] {
        let code = scene.code().await;
        let mut fields = code_fields(&code).to_vec();
        fields.retain(|(name, _)| *name != changed.0);
        fields.extend([(changed.0, changed.1.as_str()), resource]);
        scene.ask(&fields).await;
        assert_eq!(
            scene.reason().await,
            Standing::Failed(failure),
            "{changed:?}"
        );
    }
    let code = scene.code().await;
    let tokens = scene.exchange(&code).await.value();
    scene.exchange(&code).await;
    assert_eq!(scene.reason().await, Standing::Failed(Failure::CodeReused));
    let refresh = tokens["refresh_token"].as_str().unwrap();
    scene.refresh(refresh).await;
    assert_eq!(
        scene.reason().await,
        Standing::Failed(Failure::RefreshInvalid)
    );
}

#[tokio::test]
async fn a_registration_that_was_refused_joins_the_client_that_was_challenged() {
    let mut scene = Scene::observed().await;
    let mut db = scene.app.db.acquire().await.unwrap();
    let hello = crate::projects::find_by_name(&mut db, "hello")
        .await
        .unwrap()
        .unwrap();
    let challenged = edge::protocol::ConnectionStep {
        project: hello.id,
        step: edge::protocol::EdgeStep::Challenged,
        at_ms: scene.app.clock.now().unix_timestamp() * 1_000,
        count: 1,
        // What the router takes a request without `X-Forwarded-For` for.
        address: "127.0.0.1".to_owned(),
        user_agent: Some(CLIENT.to_owned()),
        client_id: None,
        user: None,
    };
    connections::keep_report(
        &mut db,
        &scene.app.kek,
        &[challenged],
        scene.app.clock.now(),
    )
    .await
    .unwrap();
    let body = json!({ "redirect_uris": ["javascript:alert(1)"] });
    scene.client.json("/oauth/register", &body).await;
    let told = scene.told().await;
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(
        steps(&told[0]),
        [
            (Step::Challenged, None),
            (Step::Registered, Some(Failure::RegistrationRefused))
        ]
    );
    assert_eq!(
        told[0].standing,
        Standing::Failed(Failure::RegistrationRefused)
    );
    assert!(told[0].events[1].detail.is_some());
}

#[tokio::test]
async fn a_sign_in_of_the_command_line_is_no_connection() {
    let scene = Scene::observed().await;
    let mut browser = scene.browser.clone();
    browser
        .get(&scene.request(&[
            ("client_id", crate::clients::CLI_CLIENT),
            ("resource", "http://localhost:8080/api"),
        ]))
        .await;
    connections::flush(&scene.app).await;
    let told = scene.count("connection_steps").await;
    assert_eq!(told, 1, "the registration of the scene's client alone");
}
