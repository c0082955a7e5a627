//! What a yes does: a grant or a sign-in, a code for it, and back to the client.

use axum::response::Response;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Asked, Pending};
use crate::app::App;
use crate::clients;
use crate::error::Result;
use crate::grants::consents::{self, Consent};
use crate::grants::{self, NewGrant, codes};
use crate::login_codes::{self, NewCode};
use crate::oauth::request::Refused;
use crate::organizations;
use crate::projects;

impl Pending {
    /// Whether exactly this was allowed before. A sign-in never was: it is asked for each time.
    pub(in crate::oauth) async fn is_remembered(&self, db: &mut PgConnection) -> Result<bool> {
        match self.asked {
            Asked::Project { id, .. } => consents::is_remembered(db, self.consent(id)).await,
            Asked::Api { .. } => Ok(false),
        }
    }

    /// The person said yes, now or before.
    pub(in crate::oauth) async fn allow(self, app: &App) -> Result<Response, Refused> {
        match &self.asked {
            Asked::Project { id, .. } => {
                let project = *id;
                self.allow_project(app, project).await
            }
            Asked::Api { token_name } => {
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
        let role = match &found {
            Some(project) => {
                organizations::role_of(&mut tx, self.user, project.organization_id).await?
            }
            None => None,
        };
        let (Some(found), Some(_)) = (found, role) else {
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
        consents::remember(&mut tx, self.consent(project), now).await?;
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
            redirect_uri: &self.registered_uri,
        }
    }
}
