//! `grant_type=authorization_code` (RFC 6749 section 4.1.3 with RFC 7636 section 4.6).

use sqlx::PgConnection;

use super::{TokenError, Tokens, tokens};
use crate::app::App;
use crate::clients::{CLI_CLIENT, Client};
use crate::connections::Failure;
use crate::grants::codes::{self, Redeemed};
use crate::grants::{self, refresh_tokens};
use crate::login_codes;
use crate::oauth::parameters::Parameters;
use crate::oauth::{pkce, resource, scope};

/// What a code is bound to.
struct Binding<'a> {
    client_id: &'a str,
    redirect_uri: &'a str,
    challenge: &'a str,
    resource: &'a str,
}

/// Answers with the tokens of a code. A code is used up by any presentation.
pub(super) async fn answer(
    app: &App,
    db: &mut PgConnection,
    client: &Client,
    form: &Parameters,
) -> Result<Tokens, TokenError> {
    let (Some(code), Some(_), Some(_)) = (
        form.get("code"),
        form.get("redirect_uri"),
        form.get("code_verifier"),
    ) else {
        return Err(TokenError::InvalidRequest(
            "code, redirect_uri and code_verifier are needed",
        ));
    };
    let reused = TokenError::InvalidGrant(
        Failure::CodeReused,
        "the code was used before; its tokens are revoked now",
    );
    let now = app.clock.now();
    match codes::redeem(db, code, now).await? {
        Redeemed::Fresh(code) => {
            let binding = Binding {
                client_id: &code.grant.client_id,
                redirect_uri: &code.redirect_uri,
                challenge: &code.challenge,
                resource: &code.grant.resource,
            };
            check_binding(app, client, form, &binding)?;
            return of_project(app, db, client, &code).await;
        }
        Redeemed::Reused => return Err(reused),
        Redeemed::Unknown => {}
    }
    match login_codes::redeem(db, code, now).await? {
        login_codes::Redeemed::Fresh(code) => {
            let binding = Binding {
                client_id: CLI_CLIENT,
                redirect_uri: &code.redirect_uri,
                challenge: &code.challenge,
                resource: &resource::api(&app.config),
            };
            check_binding(app, client, form, &binding)?;
            of_api(app, db, &code).await
        }
        login_codes::Redeemed::Reused => Err(reused),
        login_codes::Redeemed::Unknown => Err(TokenError::InvalidGrant(
            Failure::CodeInvalid,
            "the code is unknown or has expired",
        )),
    }
}

/// Whether the request is the one that the code was issued for. A token request may leave
/// `resource` out, but not name another (RFC 8707 section 2.2).
fn check_binding(
    app: &App,
    client: &Client,
    form: &Parameters,
    binding: &Binding<'_>,
) -> Result<(), TokenError> {
    if binding.client_id != client.id {
        return Err(TokenError::InvalidGrant(
            Failure::CodeInvalid,
            "the code was issued to another client",
        ));
    }
    if form.get("redirect_uri") != Some(binding.redirect_uri) {
        return Err(TokenError::InvalidGrant(
            Failure::RedirectUriChanged,
            "redirect_uri is not the one of the authorization request",
        ));
    }
    let verifier = form.get("code_verifier").unwrap_or_default();
    if !pkce::is_verifier(verifier) || !pkce::fits(verifier, binding.challenge) {
        return Err(TokenError::InvalidGrant(
            Failure::VerifierWrong,
            "code_verifier does not fit the code_challenge",
        ));
    }
    match form.get("resource") {
        Some(other) if !resource::is_same(&app.config, other, binding.resource) => {
            Err(TokenError::InvalidTarget(
                Failure::ResourceUnknown,
                "resource is not the one that was allowed",
            ))
        }
        _ => Ok(()),
    }
}

async fn of_project(
    app: &App,
    db: &mut PgConnection,
    client: &Client,
    code: &codes::Code,
) -> Result<Tokens, TokenError> {
    let now = app.clock.now();
    let grant = &code.grant;
    let refresh_token = if scope::gives_refresh_token(client, &grant.scope) {
        Some(refresh_tokens::issue(db, grant.id, now).await?)
    } else {
        None
    };
    grants::touch(db, grant.id, now).await?;
    tokens(app, client, grant, grant.scope.clone(), refresh_token)
}

/// No refresh token: the API token lasts, and ends on the Tokens page.
async fn of_api(
    app: &App,
    db: &mut PgConnection,
    code: &login_codes::Code,
) -> Result<Tokens, TokenError> {
    Ok(Tokens {
        access_token: login_codes::give_token(db, code, app.clock.now()).await?,
        token_type: "Bearer",
        expires_in: login_codes::TOKEN_LIFETIME.whole_seconds(),
        refresh_token: None,
        scope: scope::API.to_owned(),
        of: None,
    })
}
