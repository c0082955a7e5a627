//! Sign-in for Apps (GitHub's documentation, "Generating a user access token for a GitHub App").

use anyhow::{Context as _, Result};
use aws_lc_rs::digest;
use axum::body::Body;
use axum::http::{Response, header};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::{Fields, Visit, field, html, redirect, refuse, with};
use crate::github::state::{self, App, Code};
use crate::github::{Shared, pages};

/// How long a code of the consent page is good, in minutes.
const CODE_MINUTES: i64 = 10;

/// Whether an address may get a code (GitHub's documentation, "Redirect URLs"): the callback's host and
/// port, and its path or one below it; on this machine any port.
fn allowed(callback: &str, asked: &str) -> bool {
    let (Ok(callback), Ok(asked)) = (Url::parse(callback), Url::parse(asked)) else {
        return false;
    };
    let local = matches!(callback.host_str(), Some("127.0.0.1" | "[::1]"));
    let (path, below) = (callback.path().trim_end_matches('/'), asked.path());
    callback.scheme() == asked.scheme()
        && callback.host() == asked.host()
        && (local || callback.port_or_known_default() == asked.port_or_known_default())
        && (below == callback.path()
            || below
                .strip_prefix(path)
                .is_some_and(|rest| rest.starts_with('/')))
}

impl Visit<'_> {
    /// Asks for consent, or remembers it.
    pub(super) fn authorize(&self, query: &str) -> Result<Response<Body>> {
        let (app, person) = {
            let state = self.shared.state();
            let Some(person) = self.person(&state) else {
                return self.who_are_you();
            };
            let wanted = field(&self.query, "client_id").unwrap_or_default();
            let Some(app) = state.apps.values().find(|app| app.client_id == wanted) else {
                return html(404, pages::page("Page not found", ""));
            };
            (app.clone(), person)
        };
        if let Err(why) = callback(&app, &self.query) {
            return refuse(400, why);
        }
        let method = field(&self.query, "code_challenge_method");
        if field(&self.query, "code_challenge").is_some() && method != Some("S256") {
            return refuse(400, "The code_challenge_method must be S256.");
        }
        if self.shared.state().grants.contains(&(person.id, app.id)) {
            return self.send_code(&app, person.id, &self.query);
        }
        html(200, pages::consent(&app.name, &person.login, query))
    }

    pub(super) fn decide(&self) -> Result<Response<Body>> {
        let asked = field(&self.form, "query").unwrap_or_default();
        let asked: Fields = form_urlencoded::parse(asked.as_bytes())
            .into_owned()
            .collect();
        let (app, person) = {
            let state = self.shared.state();
            let Some(person) = self.person(&state) else {
                return self.who_are_you();
            };
            let wanted = field(&asked, "client_id").unwrap_or_default();
            let app = state.apps.values().find(|app| app.client_id == wanted);
            (app.context("an App")?.clone(), person)
        };
        if field(&self.form, "authorize") != Some("1") {
            let to = match callback(&app, &asked) {
                Ok(to) => to,
                Err(why) => return refuse(400, why),
            };
            let parameters = [
                ("error", Some("access_denied")),
                (
                    "error_description",
                    Some("The user has denied your application access."),
                ),
                (
                    "error_uri",
                    Some(
                        "https://docs.github.com/apps/managing-oauth-apps/troubleshooting-authorization-request-errors/#access-denied",
                    ),
                ),
                ("state", field(&asked, "state")),
            ];
            return redirect(&with(&to, &parameters)?);
        }
        self.shared.state().grants.insert((person.id, app.id));
        self.send_code(&app, person.id, &asked)
    }

    pub(super) fn send_code(&self, app: &App, user: u64, asked: &Fields) -> Result<Response<Body>> {
        let to = match callback(app, asked) {
            Ok(to) => to,
            Err(why) => return refuse(400, why),
        };
        let code = self.shared.new_code(app.id, user, asked);
        let parameters = [("code", Some(&*code)), ("state", field(asked, "state"))];
        redirect(&with(&to, &parameters)?)
    }

    /// A code for a token; GitHub answers errors with 200, too. The App's secret stands in the body:
    /// Enterprise Servers take it nowhere else.
    pub(super) fn access_token(&self) -> Result<Response<Body>> {
        let answer = match self.exchange() {
            Ok(token) => json!({
                "access_token": token,
                "expires_in": 28_800,
                "refresh_token": state::random("ghr_"),
                "refresh_token_expires_in": 15_897_600,
                "token_type": "bearer",
                "scope": "",
            }),
            Err((error, description)) => json!({
                "error": error,
                "error_description": description,
                "error_uri": format!("https://docs.github.com/apps/managing-oauth-apps/troubleshooting-oauth-app-access-token-request-errors/#{}", error.replace('_', "-")),
            }),
        };
        let accepted = self.parts.headers.get(header::ACCEPT);
        let json = accepted.and_then(|value| value.to_str().ok());
        let (kind, body) = if json.is_some_and(|accepted| accepted.contains("json")) {
            ("application/json; charset=utf-8", answer.to_string())
        } else {
            (
                "application/x-www-form-urlencoded; charset=utf-8",
                form(&answer),
            )
        };
        Ok(Response::builder()
            .status(200)
            .header(header::CONTENT_TYPE, kind)
            .body(body.into())?)
    }

    pub(super) fn exchange(&self) -> Result<String, (&'static str, &'static str)> {
        let bad_code = (
            "bad_verification_code",
            "The code passed is incorrect or expired.",
        );
        let code = {
            let mut state = self.shared.state();
            let id = field(&self.form, "client_id").unwrap_or_default();
            let app = state.apps.values().find(|app| app.client_id == id);
            let secret = field(&self.form, "client_secret").unwrap_or_default();
            let app = app.filter(|app| app.client_secret == secret).ok_or((
                "incorrect_client_credentials",
                "The client_id and/or client_secret passed are incorrect.",
            ))?;
            let app = app.id;
            // Once, whatever comes of it.
            let code = state
                .codes
                .remove(field(&self.form, "code").unwrap_or_default());
            code.filter(|code| code.app == app && code.expires_at > state::now())
                .ok_or(bad_code)?
        };
        let asked = field(&self.form, "redirect_uri");
        if asked.is_some() && asked != code.redirect_uri.as_deref() {
            return Err((
                "redirect_uri_mismatch",
                "The redirect_uri MUST match the registered callback URL for this application.",
            ));
        }
        if let Some(challenge) = &code.challenge {
            let verifier = field(&self.form, "code_verifier").unwrap_or_default();
            let digest = digest::digest(&digest::SHA256, verifier.as_bytes());
            if BASE64_URL_SAFE_NO_PAD.encode(digest) != *challenge {
                return Err(bad_code);
            }
        }
        Ok(self.shared.new_user_token(code.user, code.app))
    }
}

/// Where the code goes: the asked-for address if the App has one like it, or its first.
fn callback(app: &App, asked: &Fields) -> Result<String, &'static str> {
    let first = app.callback_urls.first().cloned();
    let Some(first) = first else {
        return Err("The App has no callback URL.");
    };
    match field(asked, "redirect_uri") {
        None => Ok(first),
        Some(to) if app.callback_urls.iter().any(|one| allowed(one, to)) => Ok(to.to_owned()),
        Some(_) => Err("The redirect_uri is not associated with this application."),
    }
}

fn form(answer: &Value) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, value) in answer.as_object().into_iter().flatten() {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        form.append_pair(name, &value);
    }
    form.finish()
}

impl Shared {
    pub(super) fn new_code(&self, app: u64, user: u64, asked: &Fields) -> String {
        let code = state::random("").chars().take(20).collect::<String>();
        let kept = Code {
            app,
            user,
            redirect_uri: field(asked, "redirect_uri").map(str::to_owned),
            challenge: field(asked, "code_challenge").map(str::to_owned),
            expires_at: state::now() + time::Duration::minutes(CODE_MINUTES),
        };
        self.state().codes.insert(code.clone(), kept);
        code
    }
}
