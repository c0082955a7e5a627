//! Clients whose id is the URL of a document that describes them (Client ID Metadata Document,
//! draft-ietf-oauth-client-id-metadata-document). The document is fetched when somebody asks,
//! kept as long as its host allows, and asked for again after that: a client whose document has
//! vanished or turned invalid is stopped.

use std::net::IpAddr;

use outbound::Document;
use serde_json::json;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::fetched::Fetched;
use super::metadata::{Description, Wrong};
use super::{Client, find, host_of};
use crate::app::App;
use crate::connections::{Seen, Step, Visitor, record};
use crate::error::{Error, Result};

/// A document is used at least this long, whatever its host says: or every request of a client
/// would be one of ours.
const SHORTEST: Duration = Duration::minutes(5);

/// A document is used at most this long, so that one that was taken over is not for ever.
const LONGEST: Duration = Duration::hours(24);

/// How long a document is used when its host does not say.
const USUAL: Duration = Duration::hours(1);

/// While its host is away, a document is used this much longer (like RFC 5861 section 4).
pub(super) const WHILE_AWAY: Duration = Duration::hours(24);

/// Why it is not known who a client is.
#[derive(Debug)]
pub enum Unresolved {
    /// There is no such client.
    Unknown,
    /// Its document cannot be used: a sentence for the client's developer, in ASCII.
    Unusable(String),
    /// Its document cannot be had just now; a sentence too.
    Away(String),
    /// Somebody asks too often, or the fault is ours.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Unresolved {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The client with this id; one that is a document is fetched for `asking` when the copy kept is
/// not fresh any more. That may take seconds, so call it while holding no connection.
pub async fn resolve(app: &App, id: &str, asking: IpAddr) -> Result<Client, Unresolved> {
    let now = app.clock.now();
    if !is_url(id) {
        let mut db = app.db.acquire().await?;
        return find(&mut db, id).await?.ok_or(Unresolved::Unknown);
    }
    check_id(id)
        .map_err(|why| Unresolved::Unusable(format!("The client_id cannot be used: it {why}.")))?;
    if let Some(client) = kept(app, id).await?.filter(|client| is_fresh(client, now)) {
        return Ok(client);
    }
    let flight = app.documents.flight(id);
    let _alone = flight.lock().await;
    // Whoever was here before may have fetched it.
    let old = kept(app, id).await?;
    if let Some(client) = old.clone().filter(|client| is_fresh(client, now)) {
        return Ok(client);
    }
    let fetched = match app.documents.fetch(id, asking, now).await {
        Fetched::Document(document) => match Description::read(id, &document.body) {
            Ok(description) => {
                let mut db = app.db.acquire().await?;
                keep(&mut db, id, &description, now, now + lifetime(&document)).await?;
                let visitor = Visitor::at(asking);
                record(
                    app,
                    Seen::new(Step::ClientDocument, &visitor, now).client(id),
                );
                return find(&mut db, id).await?.ok_or(Unresolved::Unknown);
            }
            Err(wrong) => {
                let why = match wrong {
                    Wrong::RedirectUri(why) => why,
                    Wrong::Other(why) => why.to_owned(),
                };
                Fetched::Failed(app.documents.failed(id, why, false, now))
            }
        },
        other => other,
    };
    match old {
        Some(old) if fetched.is_temporary() && may_be_used_while_away(&old, now) => Ok(old),
        _ => Err(fetched.unresolved("The document at the client_id")),
    }
}

/// Whether an id is meant to be the URL of a document.
pub fn is_url(id: &str) -> bool {
    id.contains("://")
}

/// The draft's section 3, and what can be fetched at all; the error is the reason.
fn check_id(id: &str) -> Result<(), &'static str> {
    let url = outbound::check_url(id)?;
    if url.path() == "/" {
        return Err("has no path");
    }
    Ok(())
}

async fn kept(app: &App, id: &str) -> Result<Option<Client>> {
    let mut db = app.db.acquire().await?;
    find(&mut db, id).await
}

fn is_fresh(client: &Client, now: OffsetDateTime) -> bool {
    client.fresh_until.is_some_and(|until| now < until)
}

fn may_be_used_while_away(client: &Client, now: OffsetDateTime) -> bool {
    client
        .fresh_until
        .is_some_and(|until| now < until + WHILE_AWAY)
}

/// How long a document is used, as its host says and within our bounds.
pub(super) fn lifetime(document: &Document) -> Duration {
    document
        .fresh_for
        .map_or(USUAL, |fresh| Duration::try_from(fresh).unwrap_or(LONGEST))
        .clamp(SHORTEST, LONGEST)
}

/// Keeps a copy, in the place of the one before.
async fn keep(
    db: &mut PgConnection,
    id: &str,
    description: &Description,
    now: OffsetDateTime,
    fresh_until: OffsetDateTime,
) -> Result<()> {
    let name = description.metadata.name.clone().or_else(|| host_of(id));
    sqlx::query!(
        "insert into clients
             (id, kind, name, redirect_uris, grant_types, token_endpoint_auth_method, jwks, jwks_uri,
              metadata, created_at, fetched_at, fresh_until)
         values ($1, 'document', $2, $3, $4, $5, $6, $7, $8, $9, $9, $10)
         on conflict (id) do update set
             name = excluded.name, redirect_uris = excluded.redirect_uris,
             grant_types = excluded.grant_types,
             token_endpoint_auth_method = excluded.token_endpoint_auth_method,
             jwks = excluded.jwks, jwks_uri = excluded.jwks_uri,
             fetched_at = excluded.fetched_at, fresh_until = excluded.fresh_until",
        id,
        name.unwrap_or_default(),
        &description.metadata.redirect_uris,
        &description.metadata.grant_types,
        description.auth_method.name(),
        description.keys.jwks,
        description.keys.jwks_uri,
        json!({}),
        now,
        fresh_until,
    )
    .execute(db)
    .await?;
    Ok(())
}
