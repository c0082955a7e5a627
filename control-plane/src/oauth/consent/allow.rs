//! What a yes does: a grant or a sign-in, a code for it, and back to the client.

use axum::response::Response;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Pending, Wanted};
use crate::access;
use crate::app::App;
use crate::clients;
use crate::error::Result;
use crate::grants::consents::{self, Consent};
use crate::grants::{self, NewGrant, codes};
use crate::login_codes::{self, NewCode};
use crate::oauth::request::Refused;
use crate::projects;

impl Pending {
    /// Whether this was allowed before.
    pub(in crate::oauth) async fn is_remembered(&self, db: &mut PgConnection) -> Result<bool> {
        match self.wanted {
            Wanted::Project { id, .. } if self.is_rememberable() => {
                consents::is_remembered(db, self.consent(id)).await
            }
            _ => Ok(false),
        }
    }

    /// The person said yes, now or before.
    pub(in crate::oauth) async fn allow(self, app: &App) -> Result<Response, Refused> {
        match &self.wanted {
            Wanted::Project { id, .. } => {
                let project = *id;
                self.allow_project(app, project).await
            }
            Wanted::Api { token_name } => {
                let new = NewCode {
                    user: self.user,
                    token_name,
                    redirect_uri: &self.reply.redirect_uri,
                    challenge: &self.challenge,
                };
                let mut db = app.db.acquire().await?;
                let code = login_codes::issue(&mut db, new, app.clock.now()).await?;
                Ok(self.reply.send(&app.config, &[("code", &code)]))
            }
        }
    }

    async fn allow_project(self, app: &App, project: Uuid) -> Result<Response, Refused> {
        let now = app.clock.now();
        let mut tx = app.db.begin().await?;
        let found = projects::find(&mut tx, project).await?;
        let may = access::may_call(&mut tx, self.user, project).await?;
        let Some(found) = found.filter(|_| may) else {
            return Err(self.refuse(
                "access_denied",
                "the person has no access to this MCP server any more",
            ));
        };
        let new = NewGrant {
            user: self.user,
            client_id: &self.client_id,
            project: &found,
            resource: &self.resource,
            scope: &self.scope,
        };
        let grant = grants::create(&mut tx, new, now).await?;
        let code = codes::issue(
            &mut tx,
            grant.id,
            &self.reply.redirect_uri,
            &self.challenge,
            now,
        )
        .await?;
        if self.is_rememberable() {
            consents::remember(&mut tx, self.consent(project), now).await?;
        }
        clients::touch(&mut tx, &self.client_id, now).await?;
        tx.commit().await?;
        Ok(self.reply.send(&app.config, &[("code", &code)]))
    }

    /// What is remembered of a yes on a project.
    fn consent(&self, project: Uuid) -> Consent<'_> {
        Consent {
            user: self.user,
            client_id: &self.client_id,
            project,
            scope: &self.scope,
            redirect_set: &self.redirect_set,
        }
    }
}
