//! What browsers ask: sign-in, consent, making an App from a manifest, installing it.

mod apps;
mod installing;
mod oauth;

use anyhow::Result;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Response, StatusCode, header};
use url::{Url, form_urlencoded};

use super::Shared;
use super::pages;
use super::state::{self, Account, AccountKind, State};

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
}
