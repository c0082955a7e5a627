//! What browsers ask: sign-in, consent, making an App from a manifest, installing it.

use anyhow::{Context as _, Result};
use aws_lc_rs::digest;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Response, StatusCode, header};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::Shared;
use super::pages;
use super::state::{self, Account, AccountKind, App, Code, Manifest, Repositories, State};

/// How long a code of the consent page is good, in minutes.
const CODE_MINUTES: i64 = 10;

/// The cookie of a signed-in browser.
const SESSION: &str = "user_session";

type Fields = Vec<(String, String)>;

fn field<'f>(fields: &'f Fields, name: &str) -> Option<&'f str> {
    let found = fields.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| &**value)
}

/// One request of a browser, or of a program at the token endpoint.
struct Visit<'a> {
    shared: &'a Shared,
    parts: &'a Parts,
    query: Fields,
    form: Fields,
}

/// Any page.
pub fn answer(shared: &Shared, parts: &Parts, body: &[u8]) -> Result<Response<Body>> {
    let query = parts.uri.query().unwrap_or_default();
    let visit = Visit {
        shared,
        parts,
        query: form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect(),
        form: form_urlencoded::parse(body).into_owned().collect(),
    };
    let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
    match (parts.method.as_str(), &*path) {
        ("GET", ["login"]) => {
            let to = field(&visit.query, "return_to").unwrap_or("/");
            html(200, pages::sign_in(to))
        }
        ("POST", ["session"]) => visit.sign_in(),
        ("GET", ["login", "oauth", "authorize"]) => visit.authorize(query),
        ("POST", ["login", "oauth", "authorize"]) => visit.decide(),
        ("POST", ["login", "oauth", "access_token"]) => visit.access_token(),
        ("POST", ["settings", "apps", "new"]) => visit.keep_manifest(None),
        ("POST", ["organizations", organization, "settings", "apps", "new"]) => {
            visit.keep_manifest(Some(organization))
        }
        ("GET", ["settings", "apps", "manifest"]) => visit.show_manifest(),
        ("POST", ["settings", "apps", "create"]) => visit.create_app(),
        ("GET", ["apps", slug, "installations", "new"]) => visit.choose_account(slug),
        ("GET", ["apps", slug, "installations", "new", "permissions"]) => visit.choose(slug),
        ("POST", ["apps", slug, "installations", "new", "permissions"]) => visit.install(slug),
        (
            "GET",
            ["settings", "installations", id]
            | ["organizations", _, "settings", "installations", id],
        ) => visit.configure(id),
        _ => html(404, pages::page("Page not found", "")),
    }
}

fn html(status: u16, page: String) -> Result<Response<Body>> {
    Ok(Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "text/html; charset=utf-8")
        .body(page.into())?)
}

fn refuse(status: u16, why: &str) -> Result<Response<Body>> {
    html(
        status,
        pages::page("Whoops", &format!("<p>{}</p>", pages::escape(why))),
    )
}

fn redirect(to: &str) -> Result<Response<Body>> {
    Ok(Response::builder()
        .status(StatusCode::FOUND)
        .header(header::LOCATION, to)
        .body(Body::empty())?)
}

/// An address with more parameters.
fn with(url: &str, parameters: &[(&str, Option<&str>)]) -> Result<String> {
    let mut url = Url::parse(url)?;
    for (name, value) in parameters {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    Ok(url.into())
}

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
    /// The person whose browser it is.
    fn person(&self, state: &State) -> Option<Account> {
        let cookies = self.parts.headers.get_all(header::COOKIE);
        let session = cookies
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split("; "))
            .filter_map(|cookie| cookie.split_once('='))
            .find(|(name, _)| *name == SESSION)?;
        let user = state.sessions.get(session.1)?;
        state.accounts.get(user).cloned()
    }

    /// Leads a stranger to the sign-in page and back.
    fn who_are_you(&self) -> Result<Response<Body>> {
        let here = self
            .parts
            .uri
            .path_and_query()
            .map_or("/", |here| here.as_str());
        let to: String = form_urlencoded::byte_serialize(here.as_bytes()).collect();
        redirect(&format!("/login?return_to={to}"))
    }

    fn sign_in(&self) -> Result<Response<Body>> {
        let login = field(&self.form, "login").unwrap_or_default();
        let mut state = self.shared.state();
        let person = state
            .account(login)
            .filter(|one| one.kind == AccountKind::User);
        let Some(person) = person.map(|one| one.id) else {
            return refuse(422, "Incorrect username or password.");
        };
        let session = state::random("");
        state.sessions.insert(session.clone(), person);
        let to = field(&self.form, "return_to").unwrap_or("/");
        let to = if to.starts_with('/') && !to.starts_with("//") {
            to
        } else {
            "/"
        };
        Ok(Response::builder()
            .status(StatusCode::FOUND)
            .header(header::LOCATION, to)
            .header(
                header::SET_COOKIE,
                format!("{SESSION}={session}; Path=/; HttpOnly; SameSite=Lax"),
            )
            .body(Body::empty())?)
    }

    /// Asks for consent, or remembers it.
    fn authorize(&self, query: &str) -> Result<Response<Body>> {
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
        if let Err(answer) = callback(&app, &self.query) {
            return answer;
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

    fn decide(&self) -> Result<Response<Body>> {
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
                Err(answer) => return answer,
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

    fn send_code(&self, app: &App, user: u64, asked: &Fields) -> Result<Response<Body>> {
        let to = match callback(app, asked) {
            Ok(to) => to,
            Err(answer) => return answer,
        };
        let code = self.shared.new_code(app.id, user, asked);
        let parameters = [("code", Some(&*code)), ("state", field(asked, "state"))];
        redirect(&with(&to, &parameters)?)
    }

    /// A code for a token; GitHub answers errors with 200, too.
    fn access_token(&self) -> Result<Response<Body>> {
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
        let (kind, body) = match json.is_some_and(|accepted| accepted.contains("json")) {
            true => ("application/json; charset=utf-8", answer.to_string()),
            false => (
                "application/x-www-form-urlencoded; charset=utf-8",
                form(&answer),
            ),
        };
        Ok(Response::builder()
            .status(200)
            .header(header::CONTENT_TYPE, kind)
            .body(body.into())?)
    }

    fn exchange(&self) -> Result<String, (&'static str, &'static str)> {
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

    /// A manifest comes from another site, without this one's cookies; it is kept and shown next.
    fn keep_manifest(&self, organization: Option<&str>) -> Result<Response<Body>> {
        let text = field(&self.form, "manifest").unwrap_or_default();
        let Ok(document) = serde_json::from_str::<Value>(text) else {
            return refuse(
                422,
                "Invalid GitHub App configuration: the manifest is no JSON.",
            );
        };
        let key = state::random("");
        let kept = Manifest {
            document,
            state: field(&self.query, "state").map(str::to_owned),
            organization: organization.map(str::to_owned),
        };
        self.shared.state().manifests.insert(key.clone(), kept);
        redirect(&format!("/settings/apps/manifest?manifest_token={key}"))
    }

    fn show_manifest(&self) -> Result<Response<Body>> {
        let state = self.shared.state();
        if self.person(&state).is_none() {
            drop(state);
            return self.who_are_you();
        }
        let key = field(&self.query, "manifest_token").unwrap_or_default();
        let Some(manifest) = state.manifests.get(key) else {
            return html(404, pages::page("Page not found", ""));
        };
        let name = manifest.document["name"].as_str().unwrap_or_default();
        let shown = serde_json::to_string_pretty(&manifest.document)?;
        html(200, pages::manifest(key, name, &shown))
    }

    /// Makes the App and sends a code for its keys to the manifest's `redirect_url`.
    fn create_app(&self) -> Result<Response<Body>> {
        let (mut manifest, owner) = {
            let mut state = self.shared.state();
            let Some(person) = self.person(&state) else {
                drop(state);
                return self.who_are_you();
            };
            let key = field(&self.form, "manifest_token").unwrap_or_default();
            let Some(manifest) = state.manifests.remove(key) else {
                return html(404, pages::page("Page not found", ""));
            };
            let owner = match &manifest.organization {
                None => person.id,
                Some(login) => match state.account(login) {
                    Some(one) if one.members.contains(&person.id) => one.id,
                    _ => return html(404, pages::page("Page not found", "")),
                },
            };
            (manifest, owner)
        };
        if let Some(name) = field(&self.form, "app_name") {
            manifest.document["name"] = name.into();
        }
        let Some(to) = manifest.document["redirect_url"]
            .as_str()
            .map(str::to_owned)
        else {
            return refuse(
                422,
                "Invalid GitHub App configuration: redirect_url is missing.",
            );
        };
        let id = match self.shared.new_app(owner, &manifest.document) {
            Ok(id) => id,
            Err(error) => {
                return refuse(422, &format!("Invalid GitHub App configuration: {error}"));
            }
        };
        let code = state::random("");
        self.shared.state().conversions.insert(code.clone(), id);
        let parameters = [("code", Some(&*code)), ("state", manifest.state.as_deref())];
        redirect(&with(&to, &parameters)?)
    }

    /// The App of an address, if this person may see it.
    fn app(state: &State, slug: &str, person: &Account) -> Option<App> {
        let app = state.apps.values().find(|app| app.slug == slug)?;
        let sees = app.public || state.administers(person.id, app.owner);
        sees.then(|| app.clone())
    }

    fn choose_account(&self, slug: &str) -> Result<Response<Body>> {
        let state = self.shared.state();
        let Some(person) = self.person(&state) else {
            drop(state);
            return self.who_are_you();
        };
        let Some(app) = Self::app(&state, slug, &person) else {
            return html(404, pages::page("Page not found", ""));
        };
        // An App that is not public is for its owner alone.
        let targets = state.accounts.values().filter(|one| {
            state.administers(person.id, one.id) && (app.public || one.id == app.owner)
        });
        let state_parameter = field(&self.query, "state").unwrap_or_default();
        let links: Vec<(String, String)> = targets
            .map(|one| {
                let installed = state
                    .installations
                    .values()
                    .find(|known| known.app == app.id && known.account == one.id);
                let query = form_urlencoded::Serializer::new(String::new())
                    .append_pair("target_id", &one.id.to_string())
                    .append_pair("state", state_parameter)
                    .finish();
                let url = match installed {
                    Some(known) => format!("/settings/installations/{}", known.id),
                    None => format!("/apps/{slug}/installations/new/permissions?{query}"),
                };
                (one.login.clone(), url)
            })
            .collect();
        match &*links {
            [(_, url)] => redirect(url),
            _ => html(200, pages::accounts(&app.name, &links)),
        }
    }

    fn choose(&self, slug: &str) -> Result<Response<Body>> {
        let state = self.shared.state();
        let Some(person) = self.person(&state) else {
            drop(state);
            return self.who_are_you();
        };
        let target = field(&self.query, "target_id").and_then(|id| id.parse().ok());
        let target = target.filter(|id| state.accounts.contains_key(id));
        let (Some(app), Some(target)) = (Self::app(&state, slug, &person), target) else {
            return html(404, pages::page("Page not found", ""));
        };
        let choice = |id: u64| {
            let own = state
                .repositories
                .values()
                .filter(move |one| one.owner == id);
            own.map(|one| (one.id, state.full_name(one), false))
                .collect::<Vec<_>>()
        };
        html(
            200,
            pages::repositories(&pages::Choice {
                action: self.parts.uri.path(),
                app: &app.name,
                account: &state.accounts[&target].login,
                state: field(&self.query, "state").unwrap_or_default(),
                repositories: &choice(target),
                all: true,
                installed: false,
            }),
        )
    }

    /// Changes an installation's repositories.
    fn configure(&self, id: &str) -> Result<Response<Body>> {
        let state = self.shared.state();
        let Some(person) = self.person(&state) else {
            drop(state);
            return self.who_are_you();
        };
        let found = id
            .parse::<u64>()
            .ok()
            .and_then(|id| state.installations.get(&id));
        let found = found.filter(|one| state.administers(person.id, one.account));
        let Some(one) = found else {
            return html(404, pages::page("Page not found", ""));
        };
        let app = &state.apps[&one.app];
        let own = state
            .repositories
            .values()
            .filter(|known| known.owner == one.account);
        let listed: Vec<_> = own
            .map(|known| (known.id, state.full_name(known), state.reaches(one, known)))
            .collect();
        html(
            200,
            pages::repositories(&pages::Choice {
                action: &format!("/apps/{}/installations/new/permissions", app.slug),
                app: &app.name,
                account: &state.accounts[&one.account].login,
                state: "",
                repositories: &listed,
                all: matches!(one.repositories, Repositories::All),
                installed: true,
            }),
        )
    }

    /// Installs the App, or gives it other repositories, and sends the person to its `setup_url`.
    fn install(&self, slug: &str) -> Result<Response<Body>> {
        let mut state = self.shared.state();
        let Some(person) = self.person(&state) else {
            drop(state);
            return self.who_are_you();
        };
        let account = field(&self.form, "account").and_then(|login| state.account(login));
        let account = account.map(|one| one.id);
        let account = account.filter(|id| state.administers(person.id, *id));
        let (Some(app), Some(account)) = (Self::app(&state, slug, &person), account) else {
            return html(404, pages::page("Page not found", ""));
        };
        let chosen = self
            .form
            .iter()
            .filter(|(name, _)| name == "repository_ids");
        let repositories = match field(&self.form, "install_target") {
            Some("all") => Repositories::All,
            _ => Repositories::Selected(chosen.filter_map(|(_, id)| id.parse().ok()).collect()),
        };
        let known = state
            .installations
            .values()
            .find(|one| one.app == app.id && one.account == account)
            .map(|one| one.id);
        let (id, action) = match known {
            Some(id) => {
                self.shared
                    .replace_repositories(&mut state, id, repositories, person.id);
                (id, "update")
            }
            None => {
                let made = self.shared.new_installation(
                    &mut state,
                    app.id,
                    account,
                    repositories,
                    person.id,
                )?;
                (made, "install")
            }
        };
        drop(state);
        let id_text = id.to_string();
        let returned = field(&self.form, "state").filter(|value| !value.is_empty());
        let mut parameters = vec![
            ("installation_id", Some(&*id_text)),
            ("setup_action", Some(action)),
            ("state", returned),
        ];
        if app.request_oauth_on_install {
            let code = self.shared.new_code(app.id, person.id, &Vec::new());
            self.shared.state().grants.insert((person.id, app.id));
            parameters.insert(0, ("code", Some(&*code)));
            let to = app.callback_urls.first().context("a callback URL")?;
            return redirect(&with(to, &parameters)?);
        }
        match &app.setup_url {
            Some(to) if action == "install" || app.setup_on_update => {
                redirect(&with(to, &parameters)?)
            }
            _ => redirect(&format!("/settings/installations/{id}")),
        }
    }
}

/// Where the code goes: the asked-for address if the App has one like it, or its first.
fn callback(app: &App, asked: &Fields) -> Result<String, Result<Response<Body>>> {
    let first = app.callback_urls.first().cloned();
    let Some(first) = first else {
        return Err(refuse(400, "The App has no callback URL."));
    };
    match field(asked, "redirect_uri") {
        None => Ok(first),
        Some(to) if app.callback_urls.iter().any(|one| allowed(one, to)) => Ok(to.to_owned()),
        Some(_) => Err(refuse(
            400,
            "The redirect_uri is not associated with this application.",
        )),
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
    fn new_code(&self, app: u64, user: u64, asked: &Fields) -> String {
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

    fn replace_repositories(&self, state: &mut State, id: u64, with: Repositories, sender: u64) {
        let before = state.reached(id);
        if let Some(one) = state.installations.get_mut(&id) {
            one.repositories = with;
            one.updated_at = state::now();
        }
        let after = state.reached(id);
        let added: Vec<u64> = after.difference(&before).copied().collect();
        let removed: Vec<u64> = before.difference(&after).copied().collect();
        for (action, changed) in [("added", added), ("removed", removed)] {
            if !changed.is_empty() {
                self.tell_repositories(state, id, action, &changed, sender);
            }
        }
    }
}
