//! Asking GitHub who a person is: the authorization code flow with PKCE (RFC 6749 section 4.1,
//! RFC 7636), by the oauth2 crate. The person's token lives for the length of one request of ours
//! and is never written down.
//! <https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-user-access-token-for-a-github-app>

use futures_util::future::BoxFuture;
use oauth2::basic::{BasicClient, BasicErrorResponseType};
use oauth2::{
    AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken,
    HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError,
    TokenResponse as _, TokenUrl,
};
use sqlx::PgConnection;
use tower_sessions::Session;

use super::attempts::{self, Purpose};
use super::client::Client;
use super::failure::Failure;
use super::manifest::CALLBACK_PATH;
use super::registration::Registration;
use crate::app::App;
use crate::config::Secret;
use crate::error::Result;

/// The address at GitHub that a browser is sent to, and where it comes back from with `purpose`.
pub async fn begin(
    app: &App,
    db: &mut PgConnection,
    registration: &Registration,
    session: &Session,
    purpose: &Purpose,
) -> Result<String> {
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let now = app.clock.now();
    let verifier = Some(verifier.secret().as_str());
    let state = attempts::begin(db, &app.kek, session, purpose, verifier, now).await?;
    let client = BasicClient::new(ClientId::new(registration.client_id.clone()))
        .set_auth_uri(AuthUrl::from_url(at(app, "authorize")))
        .set_redirect_uri(redirect(app));
    let (url, _) = client
        .authorize_url(|| CsrfToken::new(state))
        .set_pkce_challenge(challenge)
        .url();
    Ok(url.into())
}

/// Exchanges the code that came back for the person's token.
pub async fn exchange(
    app: &App,
    registration: &Registration,
    code: &str,
    verifier: String,
) -> Result<Secret, Failure> {
    let client = BasicClient::new(ClientId::new(registration.client_id.clone()))
        .set_client_secret(ClientSecret::new(
            registration.client_secret.expose().to_owned(),
        ))
        // GitHub reads the client's secret from the body only.
        .set_auth_type(AuthType::RequestBody)
        .set_token_uri(TokenUrl::from_url(at(app, "access_token")))
        .set_redirect_uri(redirect(app));
    let answer = client
        .exchange_code(AuthorizationCode::new(code.to_owned()))
        .set_pkce_verifier(PkceCodeVerifier::new(verifier))
        .request_async(&Carrier(&app.github.client))
        .await
        .map_err(|error| match error {
            RequestTokenError::Request(failure) => failure,
            RequestTokenError::ServerResponse(refusal) => match refusal.error() {
                BasicErrorResponseType::Extension(code) if code == "bad_verification_code" => {
                    Failure::Refused(
                        "GitHub does not take this answer any more; begin again from the page here."
                            .into(),
                    )
                }
                // The code alone: descriptions may repeat what was sent.
                code => Failure::Refused(format!(
                    "GitHub refuses to say who you are ({}); ask the operator to check the App with `berth doctor`.",
                    code.as_ref()
                )),
            },
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => Failure::Unavailable(
                "GitHub answered something that cannot be read.".into(),
            ),
        })?;
    Ok(Secret::new(answer.access_token().secret().clone()))
}

/// Our client, as the oauth2 crate takes one.
struct Carrier<'a>(&'a Client);

impl<'c> AsyncHttpClient<'c> for Carrier<'_> {
    type Error = Failure;
    type Future = BoxFuture<'c, Result<HttpResponse, Failure>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.0.carry(request))
    }
}

fn redirect(app: &App) -> RedirectUrl {
    let url = app
        .config
        .url
        .join(CALLBACK_PATH)
        .expect("a path of ours joins our address");
    RedirectUrl::from_url(url)
}

fn at(app: &App, what: &str) -> url::Url {
    let mut url = app.config.github_url.clone();
    url.path_segments_mut()
        .expect("http addresses have paths")
        .pop_if_empty()
        .extend(["login", "oauth", what]);
    url
}
