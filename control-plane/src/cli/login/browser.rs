//! Signing in by browser: the authorization code flow of a native app (RFC 8252) with PKCE
//! (RFC 7636), against the server's own authorization server. It gives an API token.

use std::io::{IsTerminal as _, stdin};
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use oauth2::basic::{BasicClient, BasicErrorResponse};
use oauth2::{
    AuthUrl, AuthorizationCode, ClientId, CsrfToken, HttpRequest, HttpResponse, PkceCodeChallenge,
    RedirectUrl, RequestTokenError, TokenResponse as _, TokenUrl,
};
use serde::Deserialize;
use tokio::time::timeout;
use url::Url;

use super::loopback::{Answer, Loopback};
use crate::api_tokens;
use crate::cli::client::{Client, root_cause};
use crate::cli::exit::Failure;
use crate::cli::open::browse;
use crate::cli::output::note;
use crate::clients::CLI_CLIENT;

/// Long enough to find a password; a sign-in that nobody finishes ends.
const ANSWER_LIMIT: Duration = Duration::from_mins(5);

/// Longest name of this machine that the server takes.
const MAX_DEVICE_NAME: usize = 63;

/// What is read of the authorization server's metadata (RFC 8414 section 2).
#[derive(Debug, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
}

/// A new API token for whoever allows it in the browser, which is opened if `open`.
pub async fn sign_in(client: &Client, open: bool) -> anyhow::Result<String> {
    let metadata = metadata(client).await?;
    let resource = format!("{}/api/v1", metadata.issuer);
    let loopback = Loopback::bind().await?;
    let oauth = BasicClient::new(ClientId::new(CLI_CLIENT.to_owned()))
        .set_auth_uri(AuthUrl::new(metadata.authorization_endpoint)?)
        .set_token_uri(TokenUrl::new(metadata.token_endpoint)?)
        .set_redirect_uri(RedirectUrl::new(loopback.redirect_uri())?);
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let mut request = oauth
        .authorize_url(CsrfToken::new_random)
        .set_pkce_challenge(challenge)
        .add_extra_param("resource", &resource);
    if let Some(name) = device_name() {
        request = request.add_extra_param("device_name", name);
    }
    let (url, state) = request.url();
    let answer = ask(loopback, state, &url, open).await?;
    let code = read(answer, &metadata.issuer)?;
    let http = |request| send(client.http(), request);
    let tokens = oauth
        .exchange_code(AuthorizationCode::new(code))
        .set_pkce_verifier(verifier)
        .add_extra_param("resource", &resource)
        .request_async(&http)
        .await
        .map_err(|error| refused(client, error))?;
    let token = tokens.access_token().secret();
    ensure!(
        token.starts_with(api_tokens::PREFIX),
        "{} gave something that is no API token; it may be older than this command",
        client.name()
    );
    Ok(token.clone())
}

/// The server's metadata, if it is about this very server (RFC 8414 section 3.3).
async fn metadata(client: &Client) -> anyhow::Result<Metadata> {
    let document = client
        .get("/.well-known/oauth-authorization-server")
        .await?;
    let metadata: Metadata = serde_json::from_value(document)
        .with_context(|| format!("{} is no Berth server", client.name()))?;
    if Url::parse(&metadata.issuer).ok().as_ref() != Some(client.server()) {
        bail!(Failure::Usage(format!(
            "the server at {} is called {}; run `berth login --server {1}`",
            client.name(),
            metadata.issuer
        )));
    }
    Ok(metadata)
}

/// Shows the address, opens it, and waits for what the browser brings.
async fn ask(
    loopback: Loopback,
    state: CsrfToken,
    url: &Url,
    open: bool,
) -> anyhow::Result<Answer> {
    note(&format!(
        "Sign in at this address, in a browser on this computer:\n\n  {url}\n\n\
         Is the browser on another computer? Stop this with Ctrl-C and run `berth login --paste`."
    ));
    let mut answer = pin!(timeout(ANSWER_LIMIT, loopback.answer(state.into_secret())));
    let answered = if open {
        tokio::select! {
            answered = &mut answer => Some(answered),
            opened = browse(url) => {
                // Nobody sits there who could open it.
                ensure!(
                    opened || stdin().is_terminal(),
                    Failure::Usage(
                        "no browser could be opened: run `berth login --no-browser` and open the \
                         address yourself, or sign in with --token, or with --email and \
                         --password-stdin"
                            .to_owned()
                    )
                );
                None
            }
        }
    } else {
        None
    };
    let answered = match answered {
        Some(answered) => answered,
        None => answer.await,
    };
    answered.map_err(|_| {
        anyhow!(
            "nobody answered in the browser within {} minutes; run `berth login` again, or \
             `berth login --paste` where the browser is on another computer",
            ANSWER_LIMIT.as_secs() / 60
        )
    })?
}

/// The code of an answer whose state was right (RFC 9207 section 2.4: and whose issuer is).
fn read(answer: Answer, issuer: &str) -> anyhow::Result<String> {
    ensure!(
        answer.iss.as_deref() == Some(issuer),
        "another server than {issuer} answered, so nothing was sent to it; run `berth login` again"
    );
    match (answer.code, answer.error.as_deref()) {
        (Some(code), None) => Ok(code),
        (_, Some("access_denied")) => bail!(
            "it was not allowed in the browser; run `berth login` again if that was a mistake"
        ),
        (_, error) => bail!(
            "the server refused to sign in: {}",
            printable(
                answer
                    .error_description
                    .as_deref()
                    .or(error)
                    .unwrap_or("it did not say why")
            )
        ),
    }
}

/// Words of the server's, without what would steer a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// The name of this machine, as far as the server takes it.
fn device_name() -> Option<String> {
    let uname = rustix::system::uname();
    let name: String = uname
        .nodename()
        .to_string_lossy()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        .take(MAX_DEVICE_NAME)
        .collect();
    (!name.is_empty()).then_some(name)
}

/// Carries a request of the oauth2 crate.
async fn send(http: &reqwest::Client, request: HttpRequest) -> reqwest::Result<HttpResponse> {
    let answer = http.execute(request.try_into()?).await?;
    let mut response = HttpResponse::default();
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    *response.body_mut() = answer.bytes().await?.to_vec();
    Ok(response)
}

/// Why there is no token, in a sentence.
fn refused(
    client: &Client,
    error: RequestTokenError<reqwest::Error, BasicErrorResponse>,
) -> anyhow::Error {
    let name = client.name();
    match error {
        RequestTokenError::ServerResponse(said) => anyhow!(
            "{name} gave no token: {}; run `berth login` again",
            printable(
                said.error_description()
                    .map_or(said.error().as_ref(), String::as_str)
            )
        ),
        RequestTokenError::Request(error) => {
            anyhow!(
                "{name} does not answer ({}); run `berth login` again",
                root_cause(&error)
            )
        }
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            anyhow!("{name} gave an answer that is no token; is this a Berth server?")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(query: &str) -> Answer {
        let uri: http::Uri = format!("http://127.0.0.1/callback?state=s&{query}")
            .parse()
            .unwrap();
        axum::extract::Query::try_from_uri(&uri).unwrap().0
    }

    #[test]
    fn a_code_counts_only_from_the_server_that_was_asked() {
        let here = "http://localhost:8080";
        let iss = "iss=http%3A%2F%2Flocalhost%3A8080";
        assert_eq!(read(answer(&format!("code=1&{iss}")), here).unwrap(), "1");
        for other in [
            "code=1",
            "code=1&iss=http%3A%2F%2Fevil.example",
            "code=1&iss=http%3A%2F%2Flocalhost%3A8080%2F",
            &format!("code=1&error=access_denied&{iss}"),
            iss,
        ] {
            read(answer(other), here).unwrap_err();
        }
        let said = read(
            answer(&format!(
                "error=server_error&error_description=a%1B%5Bb&{iss}"
            )),
            here,
        );
        assert_eq!(
            said.unwrap_err().to_string(),
            "the server refused to sign in: a[b"
        );
    }
}
