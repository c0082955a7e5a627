//! The page that asks.

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use tower_sessions::Session;

use super::{Destination, Pending, Wanted, browser};
use crate::app::App;
use crate::login_codes;
use crate::oauth::request::Refused;
use crate::oauth::{redirect_uri, scope};
use crate::pending_authorizations::{self as waiting, Asked};
use crate::signin::csrf;
use crate::signin::page::page;

/// Who looks at the page.
#[derive(Debug)]
pub(in crate::oauth) struct Visitor<'a> {
    /// Their session.
    pub(in crate::oauth) session: &'a Session,
    /// Their e-mail address.
    pub(in crate::oauth) email: &'a str,
    /// The path that asks the same again, for whoever signs in with another account.
    pub(in crate::oauth) again: &'a str,
}

/// For a project.
#[derive(Debug, Template)]
#[template(path = "oauth/consent.html")]
struct Page<'a> {
    form: Form<'a>,
    client: &'a str,
    /// The host that vouches for the name; `None` when nobody does.
    host: Option<&'a str>,
    destination: &'a str,
    kind: Destination,
    project: &'a str,
    resource: &'a str,
    scopes: Vec<String>,
    is_offline: bool,
}

/// For the API: lets `berth login` in.
#[derive(Debug, Template)]
#[template(path = "oauth/login.html")]
struct LoginPage<'a> {
    form: Form<'a>,
    destination: &'a str,
    token_name: &'a str,
    days: i64,
}

/// What both pages send, and who is signed in.
#[derive(Debug)]
struct Form<'a> {
    csrf: &'a str,
    request: &'a str,
    email: &'a str,
    again: &'a str,
}

impl Pending {
    /// Shows the page and waits.
    pub(in crate::oauth) async fn ask(
        self,
        app: &App,
        visitor: &Visitor<'_>,
    ) -> Result<Response, Refused> {
        let csrf = csrf::token(visitor.session).await?;
        let browser = browser(visitor.session)?;
        let asked = Asked {
            user: self.user,
            browser: &browser,
        };
        let mut db = app.db.acquire().await?;
        let request = serde_json::to_value(&self).map_err(crate::error::Error::from)?;
        let id = waiting::keep(&mut db, asked, request, app.clock.now()).await?;
        drop(db);
        let form = Form {
            csrf: &csrf,
            request: &id,
            email: visitor.email,
            again: visitor.again,
        };
        Ok(self.show(form))
    }

    fn show(&self, form: Form<'_>) -> Response {
        let destination = redirect_uri::display(&self.reply.redirect_uri);
        let form_action = redirect_uri::source(&self.reply.redirect_uri);
        match &self.wanted {
            Wanted::Project { name, .. } => {
                let template = Page {
                    form,
                    client: &self.client_name,
                    host: self.client_host.as_deref(),
                    destination: &destination,
                    kind: self.destination(),
                    project: name,
                    resource: &self.resource,
                    scopes: scope::in_words(&self.scope, name),
                    is_offline: self.is_offline,
                };
                page(StatusCode::OK, &template, form_action.as_deref())
            }
            Wanted::Api { token_name } => {
                let template = LoginPage {
                    form,
                    destination: &destination,
                    token_name,
                    days: login_codes::TOKEN_LIFETIME.whole_days(),
                };
                page(StatusCode::OK, &template, form_action.as_deref())
            }
        }
    }
}
