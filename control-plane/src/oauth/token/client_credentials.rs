//! `grant_type=client_credentials` (RFC 6749 section 4.4, MCP extension
//! `io.modelcontextprotocol/oauth-client-credentials`): a service account's own client, without
//! anyone to ask. What it may call is what the service account may call.

use sqlx::PgConnection;

use super::{TokenError, Tokens, tokens};
use crate::access;
use crate::app::App;
use crate::clients::Client;
use crate::connections::Failure;
use crate::grants::{NewGrant, standing};
use crate::oauth::parameters::Parameters;
use crate::oauth::resource;
use crate::routes::SCOPE;

/// Answers with an access token. No refresh token: the client asks again (RFC 6749 section 4.4.3).
pub(super) async fn answer(
    app: &App,
    db: &mut PgConnection,
    client: &Client,
    form: &Parameters,
) -> Result<Tokens, TokenError> {
    let Some(account) = client.service_account_id else {
        return Err(TokenError::UnauthorizedClient(
            "only clients of service accounts may use client_credentials; use authorization_code",
        ));
    };
    let server = resource::find_server(app, db, form.get("resource"))
        .await?
        .map_err(|why| TokenError::InvalidTarget(Failure::ResourceUnknown, why))?;
    if !access::may_call(db, account, server.project.id).await? {
        return Err(TokenError::InvalidTarget(
            Failure::NoAccess,
            "the service account may not call this MCP server; add it to the callers in the project's settings",
        ));
    }
    let new = NewGrant {
        user: account,
        client_id: &client.id,
        project: &server.project,
        resource: &server.resource,
        scope: SCOPE,
    };
    let grant = standing::ensure(db, new, app.clock.now()).await?;
    tokens(app, client, &grant, SCOPE.to_owned(), None)
}
