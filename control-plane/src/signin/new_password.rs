//! Another password: for someone who knows theirs, and for someone who has lost it.

use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use tower_sessions::Session;
use uuid::Uuid;

use super::sessions;
use crate::app::App;
use crate::audit::{self, Actor};
use crate::error::{Result, invalid};
use crate::github::identities;
use crate::users::{self, User};

/// Changes the password of someone who is signed in by `session`, and ends their other sessions. Fails
/// when `current` is not theirs, and when the new one is too short or too long.
pub async fn change(
    app: &App,
    session: &Session,
    user: &User,
    current: String,
    new: String,
) -> Result<()> {
    users::check_password(&new)?;
    let known = users::verify_password(&app.db, &user.email, current).await?;
    if known.is_none() {
        return Err(invalid(
            "current",
            "This is not your password; give the one that you sign in with.",
        ));
    }
    // Nobody waits for a turn to hash with a connection in hand.
    let hash = users::password::hash(new).await?;
    let mut tx = app.db.begin().await?;
    users::store_password(&mut tx, user.id, Some(&hash)).await?;
    sessions::end_of(&mut tx, user.id, session.id().as_ref()).await?;
    let subject = json!({ "by": "account" });
    note(
        &mut tx,
        &Actor::User(user.id),
        "user.set_password",
        subject,
        app.clock.now(),
    )
    .await?;
    tx.commit().await?;
    // What was known of this session before is worth nothing either.
    sessions::establish(session, user).await
}

/// Takes away all by which someone signs in, and ends the browser sessions that came of it: password,
/// account at GitHub, links. Answers with the token of a one-time link by which they choose a new
/// password. API tokens stay, and what they allowed apps.
pub async fn reset(db: &mut PgConnection, user: Uuid, now: OffsetDateTime) -> Result<String> {
    users::store_password(db, user, None).await?;
    identities::forget(db, user).await?;
    sessions::end_of(db, user, None).await?;
    users::delete_setup_links(db, user).await?;
    let subject = json!({ "user": user });
    note(db, &Actor::System, "user.reset_password", subject, now).await?;
    users::create_setup_link_for(db, user, now).await
}

async fn note(
    db: &mut PgConnection,
    actor: &Actor,
    action: &'static str,
    subject: serde_json::Value,
    now: OffsetDateTime,
) -> Result<()> {
    let entry = audit::Entry {
        at: now,
        actor,
        action,
        organization: None,
        project: None,
        subject,
    };
    Ok(audit::record(db, entry).await?)
}
