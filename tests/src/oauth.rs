//! The authorization server as a client and a person's browser use it, step by step, for tests of
//! single steps; whole flows with real clients are elsewhere.

use anyhow::{Context as _, Result, ensure};
use reqwest::blocking::{Client, Response};
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use url::Url;

use crate::platform::Platform;

/// A PKCE pair (RFC 7636 appendix B).
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// The challenge of [`VERIFIER`].
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// Where tests want their answers; nobody listens there.
pub const REDIRECT_URI: &str = "http://127.0.0.1:49152/callback";

/// A client that follows no redirect, since each is an answer to look at.
pub fn http(platform: &Platform) -> Result<Client> {
    Ok(platform.http().redirect(Policy::none()).build()?)
}

/// A registered client.
pub struct App<'a> {
    platform: &'a Platform,
    /// Sends without following redirects.
    pub http: Client,
    /// Its `client_id`.
    pub id: String,
}

impl<'a> App<'a> {
    /// Registers a client (RFC 7591) with members added or replaced.
    pub fn register(platform: &'a Platform, changed: &Value) -> Result<Self> {
        let mut body = json!({
            "client_name": "Test",
            "redirect_uris": [REDIRECT_URI],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
        });
        for (name, value) in changed.as_object().context("members")? {
            body[name] = value.clone();
        }
        let http = http(platform)?;
        let answer = http
            .post(format!("{}/oauth/register", platform.url()))
            .json(&body)
            .send()?;
        ensure!(
            answer.status() == 201,
            "{}: {}",
            answer.status(),
            answer.text()?
        );
        let registered: Value = answer.json()?;
        let id = registered["client_id"].as_str().context("no client_id")?;
        Ok(Self {
            platform,
            http,
            id: id.to_owned(),
        })
    }

    /// A client known by another way.
    pub fn known(platform: &'a Platform, id: &str) -> Result<Self> {
        Ok(Self {
            platform,
            http: http(platform)?,
            id: id.to_owned(),
        })
    }

    /// The authorization request for a project, with parameters replaced; an empty value leaves
    /// one out.
    pub fn authorize_url(&self, project: &str, changed: &[(&str, &str)]) -> Result<Url> {
        let resource = self.platform.mcp_url(project);
        let usual = [
            ("response_type", "code"),
            ("client_id", &*self.id),
            ("redirect_uri", REDIRECT_URI),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("resource", &*resource),
            ("state", "a state"),
        ];
        let mut url = Url::parse(&format!("{}/oauth/authorize", self.platform.url()))?;
        url.query_pairs_mut()
            .extend_pairs(
                usual
                    .iter()
                    .filter(|(name, _)| !changed.iter().any(|(other, _)| other == name)),
            )
            .extend_pairs(changed.iter().filter(|(_, value)| !value.is_empty()));
        Ok(url)
    }

    /// The answer to a request in the owner's browser.
    pub fn look(&self, url: &Url) -> Result<Response> {
        Ok(self
            .http
            .get(url.clone())
            .header("cookie", self.platform.cookie()?)
            .send()?)
    }

    /// Asks in the owner's browser and answers the consent page, if there is one; gives the
    /// parameters of the redirect back to the client.
    pub fn decide(&self, url: &Url, decision: &str) -> Result<Vec<(String, String)>> {
        let answer = self.look(url)?;
        if answer.status().is_redirection() {
            return parameters(&answer);
        }
        ensure!(
            answer.status() == 200,
            "{}: {}",
            answer.status(),
            answer.text()?
        );
        let page = answer.text()?;
        let answer = self
            .http
            .post(format!("{}/oauth/consent", self.platform.url()))
            .header("cookie", self.platform.cookie()?)
            .header("origin", self.platform.url())
            .form(&[
                ("csrf", field(&page, "csrf")?),
                ("request", field(&page, "request")?),
                ("decision", decision),
            ])
            .send()?;
        parameters(&answer)
    }

    /// A code for the usual request.
    pub fn code(&self, project: &str) -> Result<String> {
        let answered = self.decide(&self.authorize_url(project, &[])?, "allow")?;
        parameter(&answered, "code")
    }

    /// A token request with these fields besides `client_id`.
    pub fn token(&self, fields: &[(&str, &str)]) -> Result<Response> {
        let mut form = vec![("client_id", &*self.id)];
        form.extend_from_slice(fields);
        Ok(self
            .http
            .post(format!("{}/oauth/token", self.platform.url()))
            .form(&form)
            .send()?)
    }

    /// Exchanges a code.
    pub fn exchange(&self, code: &str) -> Result<Response> {
        self.token(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT_URI),
            ("code_verifier", VERIFIER),
        ])
    }

    /// The tokens of a whole flow.
    pub fn tokens(&self, project: &str) -> Result<Value> {
        let answer = self.exchange(&self.code(project)?)?;
        ensure!(
            answer.status() == 200,
            "{}: {}",
            answer.status(),
            answer.text()?
        );
        Ok(answer.json()?)
    }

    /// Uses a refresh token.
    pub fn refresh(&self, token: &str) -> Result<Response> {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)])
    }
}

/// The value of a hidden field.
pub fn field<'a>(page: &'a str, name: &str) -> Result<&'a str> {
    page.split_once(&format!("name=\"{name}\" value=\""))
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(value, _)| value)
        .with_context(|| format!("no field {name} in {page}"))
}

/// The parameters of a redirect.
pub fn parameters(answer: &Response) -> Result<Vec<(String, String)>> {
    let location = answer
        .headers()
        .get("location")
        .with_context(|| format!("no redirect: {answer:?}"))?;
    let url = Url::parse(location.to_str()?)?;
    Ok(url
        .query_pairs()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect())
}

/// The one value of a parameter.
pub fn parameter(all: &[(String, String)], name: &str) -> Result<String> {
    let mut values = all.iter().filter(|(known, _)| known == name);
    let value = values
        .next()
        .with_context(|| format!("no {name} in {all:?}"))?;
    ensure!(values.next().is_none(), "{name} stands twice in {all:?}");
    Ok(value.1.clone())
}
