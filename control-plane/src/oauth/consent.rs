//! Asking a person: the consent page, and `POST /oauth/consent` with their decision.
//!
//! What is asked waits under a random id that works once, for the person and in the browser
//! session that saw the page. So a decision counts only from where it was asked.

mod allow;
mod page;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tower_sessions::Session;
use uuid::Uuid;

use super::parameters::Parameters;
use super::redirect_uri;
use super::request::{AuthorizationRequest, Refused, Target};
use super::response::Reply;
use super::timeline::{Observer, of_authorization};
use super::{resource, scope};
use crate::app::App;
use crate::connections::{Failure, Seen, Step};
use crate::error::{Error, Result};
use crate::pending_authorizations::{self as waiting, Asked};
use crate::signin::{CsrfForm, person};

pub(super) use page::Visitor;

/// What a person is asked, or was asked before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pending {
    user: Uuid,
    client_id: String,
    client_name: String,
    /// The host that vouches for the name; `None` when nobody does.
    client_host: Option<String>,
    redirect_set: Vec<u8>,
    reply: Reply,
    challenge: String,
    wanted: Wanted,
    resource: String,
    scope: String,
    is_offline: bool,
}

/// What the client may call if the answer is yes.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Wanted {
    Project { id: Uuid, name: String },
    Api { token_name: String },
}

/// Where an answer goes, by who can receive it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Destination {
    /// A web site: whoever holds the name.
    Site,
    /// A program on the person's computer: any of them.
    Computer,
    /// An app that has claimed the scheme: any of them.
    Scheme,
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
    observer: Observer,
    CsrfForm(form): CsrfForm<Decision>,
) -> Response {
    match answer(&app, &session, &observer, &form).await {
        Ok(response) => response,
        Err(refused) => refused.respond(&app.config),
    }
}

async fn answer(
    app: &App,
    session: &Session,
    observer: &Observer,
    form: &Decision,
) -> Result<Response, Refused> {
    let seen = observer.step(Step::Consent);
    let Some(pending) = take(app, session, &form.request).await? else {
        observer.note(seen.failed(Failure::QuestionClosed));
        return Err(Refused::Shown(
            Failure::QuestionClosed,
            "This question was answered before, has been open too long, or was asked in another browser; start again from the app.",
        ));
    };
    let seen = pending.told(seen);
    if form.decision == "allow" {
        let allowed = pending.allow(app).await;
        match &allowed {
            Ok(_) => observer.note(seen),
            Err(refused) => {
                observer.note_failed(seen, of_authorization(refused, &Parameters::default()));
            }
        }
        allowed
    } else {
        observer.note(seen.failed(Failure::ConsentDenied));
        Err(pending.refuse("access_denied", "the person said no"))
    }
}

/// Takes what waits under `id` for whoever is signed in here.
async fn take(app: &App, session: &Session, id: &str) -> Result<Option<Pending>> {
    let Some(user) = person::find_user(session, app).await? else {
        return Ok(None);
    };
    let browser = browser(session)?;
    let asked = Asked {
        user: user.id,
        browser: &browser,
    };
    let mut db = app.db.acquire().await?;
    let request = waiting::take(&mut db, id, asked, app.clock.now()).await?;
    // One that an older version of this program wrote may read differently.
    Ok(request.and_then(|request| serde_json::from_value(request).ok()))
}

/// What tells this browser from others: the id of its session, which nobody else knows and which
/// changes when someone signs in.
fn browser(session: &Session) -> Result<String> {
    session
        .id()
        .map(|id| id.to_string())
        .ok_or_else(|| Error::Internal(anyhow::anyhow!("someone is signed in without a session")))
}

impl Pending {
    /// What `user` is to be asked.
    pub(super) fn new(request: AuthorizationRequest, user: Uuid, app: &App) -> Self {
        let is_offline = scope::gives_refresh_token(&request.client, &request.scope);
        let (resource, wanted) = match request.target {
            Target::Server(server) => (
                server.resource,
                Wanted::Project {
                    id: server.project.id,
                    name: server.project.name,
                },
            ),
            Target::Api { token_name } => (resource::api(&app.config), Wanted::Api { token_name }),
        };
        Self {
            user,
            is_offline,
            redirect_set: request.client.redirect_set_hash(),
            client_host: request.client.host(),
            client_id: request.client.id,
            client_name: request.client.name,
            reply: request.reply,
            challenge: request.challenge,
            wanted,
            resource,
            scope: request.scope,
        }
    }

    /// Whether a yes may be remembered. Not when everyone knows the `client_id` and anything on the
    /// computer can receive the answer: nothing then tells the app from one that takes its name
    /// (RFC 8252 section 8.6). A sign-in of the command line never is.
    fn is_rememberable(&self) -> bool {
        matches!(self.wanted, Wanted::Project { .. })
            && (self.client_host.is_none() || self.destination() == Destination::Site)
    }

    fn destination(&self) -> Destination {
        let uri = &self.reply.redirect_uri;
        if redirect_uri::is_loopback(uri) {
            Destination::Computer
        } else if uri.starts_with("https://") {
            Destination::Site
        } else {
            Destination::Scheme
        }
    }

    /// A step of this client, for this person.
    pub(super) fn told(&self, seen: Seen) -> Seen {
        let project = match self.wanted {
            Wanted::Project { id, .. } => Some(id),
            Wanted::Api { .. } => None,
        };
        seen.client(&self.client_id)
            .project(project)
            .user(self.user)
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
