//! Asking a person: the consent page, and `POST /oauth/consent` with their decision.
//!
//! What is asked waits in the session of the browser that saw the page, under a random id that
//! works once. So a decision counts only from the browser, the person and the page it was made on.

mod allow;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use time::Duration;
use tower_sessions::Session;
use uuid::Uuid;

use super::request::{AuthorizationRequest, Refused, Target};
use super::response::Reply;
use super::{redirect_uri, resource, scope};
use crate::app::App;
use crate::error::Result;
use crate::ids;
use crate::login_codes;
use crate::signin::page::page;
use crate::signin::sessions::internal;
use crate::signin::{CsrfForm, csrf, person};
use crate::users::User;

/// The session's key of what waits.
const KEY: &str = "authorizations";

/// How long a page may stay open.
const LIFETIME: Duration = Duration::minutes(10);

/// Pages open at the same time in one browser; the oldest gives way.
const MOST: usize = 8;

/// What a person is asked, or was asked before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pending {
    id: String,
    user: Uuid,
    client_id: String,
    client_name: String,
    registered_uri: String,
    reply: Reply,
    challenge: String,
    asked: Asked,
    resource: String,
    scope: String,
    is_offline: bool,
    /// Unix time, seconds.
    asked_at: i64,
}

/// What the client may call if the answer is yes.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Asked {
    Project { id: Uuid, name: String },
    Api { token_name: String },
}

/// The page.
#[derive(Debug, Template)]
#[template(path = "oauth/consent.html")]
struct Page<'a> {
    csrf: &'a str,
    request: &'a str,
    client: &'a str,
    destination: &'a str,
    is_loopback: bool,
    project: &'a str,
    resource: &'a str,
    email: &'a str,
    is_offline: bool,
}

/// The page that lets `berth login` in.
#[derive(Debug, Template)]
#[template(path = "oauth/login.html")]
struct LoginPage<'a> {
    csrf: &'a str,
    request: &'a str,
    destination: &'a str,
    token_name: &'a str,
    days: i64,
    email: &'a str,
}

/// What the page sends.
#[derive(Debug, Deserialize)]
pub(super) struct Decision {
    request: String,
    decision: String,
}

/// `POST /oauth/consent`
pub(super) async fn decide(
    State(app): State<App>,
    session: Session,
    CsrfForm(form): CsrfForm<Decision>,
) -> Response {
    match answer(&app, &session, &form).await {
        Ok(response) => response,
        Err(refused) => refused.respond(&app.config),
    }
}

async fn answer(app: &App, session: &Session, form: &Decision) -> Result<Response, Refused> {
    let over = Refused::Shown(
        "This question was answered before or has been open too long; start again from the app.",
    );
    let Some(user) = person::find_user(session, app).await? else {
        return Err(over);
    };
    let Some(pending) = take(app, session, &form.request).await? else {
        return Err(over);
    };
    if pending.user != user.id {
        return Err(over);
    }
    if form.decision == "allow" {
        pending.allow(app).await
    } else {
        Err(pending.refuse("access_denied", "the person said no"))
    }
}

/// Takes what waits under `id` out of the session.
async fn take(app: &App, session: &Session, id: &str) -> Result<Option<Pending>> {
    let mut waiting = waiting(app, session).await?;
    let Some(at) = waiting.iter().position(|pending| pending.id == id) else {
        return Ok(None);
    };
    let pending = waiting.swap_remove(at);
    session.insert(KEY, waiting).await.map_err(internal)?;
    Ok(Some(pending))
}

/// What waits and is not too old, oldest first.
async fn waiting(app: &App, session: &Session) -> Result<Vec<Pending>> {
    let mut waiting: Vec<Pending> = session
        .get(KEY)
        .await
        .map_err(internal)?
        .unwrap_or_default();
    let oldest = (app.clock.now() - LIFETIME).unix_timestamp();
    waiting.retain(|pending| pending.asked_at > oldest);
    waiting.sort_by_key(|pending| pending.asked_at);
    Ok(waiting)
}

impl Pending {
    /// What `user` is to be asked.
    pub(super) fn new(request: AuthorizationRequest, user: Uuid, app: &App) -> Self {
        let is_offline = scope::gives_refresh_token(&request.client, &request.scope);
        let (resource, asked) = match request.target {
            Target::Project(project) => (
                app.config.project_url(&project.name),
                Asked::Project {
                    id: project.id,
                    name: project.name,
                },
            ),
            Target::Api { token_name } => (resource::api(&app.config), Asked::Api { token_name }),
        };
        Self {
            id: ids::random_token(""),
            user,
            is_offline,
            client_id: request.client.id,
            client_name: request.client.name,
            registered_uri: request.registered_uri,
            reply: request.reply,
            challenge: request.challenge,
            asked,
            resource,
            scope: request.scope,
            asked_at: app.clock.now().unix_timestamp(),
        }
    }

    /// Shows the page and waits.
    pub(super) async fn ask(
        self,
        app: &App,
        session: &Session,
        user: &User,
    ) -> Result<Response, Refused> {
        let csrf = csrf::token(session).await?;
        let response = self.show(&csrf, &user.email);
        let mut waiting = waiting(app, session).await?;
        if waiting.len() >= MOST {
            waiting.remove(0);
        }
        waiting.push(self);
        session.insert(KEY, waiting).await.map_err(internal)?;
        Ok(response)
    }

    /// The page for what is asked.
    fn show(&self, csrf: &str, email: &str) -> Response {
        let destination = redirect_uri::display(&self.reply.redirect_uri);
        let form_action = redirect_uri::source(&self.reply.redirect_uri);
        match &self.asked {
            Asked::Project { name, .. } => {
                let template = Page {
                    csrf,
                    request: &self.id,
                    client: &self.client_name,
                    destination: &destination,
                    is_loopback: redirect_uri::is_loopback(&self.reply.redirect_uri),
                    project: name,
                    resource: &self.resource,
                    email,
                    is_offline: self.is_offline,
                };
                page(StatusCode::OK, &template, form_action.as_deref())
            }
            Asked::Api { token_name } => {
                let template = LoginPage {
                    csrf,
                    request: &self.id,
                    destination: &destination,
                    token_name,
                    days: login_codes::TOKEN_LIFETIME.whole_days(),
                    email,
                };
                page(StatusCode::OK, &template, form_action.as_deref())
            }
        }
    }

    /// Refuses with an answer to the client.
    pub(super) fn refuse(self, code: &'static str, description: &'static str) -> Refused {
        Refused::Told {
            reply: self.reply,
            code,
            description,
        }
    }
}
