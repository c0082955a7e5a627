//! Another password: for someone who knows theirs, and for someone who has lost it.

use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use tower_sessions::Session;
use uuid::Uuid;

use super::sessions;
use crate::app::App;
use crate::audit::{self, Actor};
use crate::error::{Error, Result, invalid};
use crate::github::identities;
use crate::ids;
use crate::users::{self, User, password};

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
    // Nobody waits for a turn to hash with a connection in hand.
    let before = users::find_password(&mut *app.db.acquire().await?, user.id).await?;
    if !password::verify(current, before.clone()).await? {
        return Err(invalid(
            "current",
            "This is not your password; give the one that you sign in with.",
        ));
    }
    let new = password::hash(new).await?;
    let mut tx = app.db.begin().await?;
    if !users::replace_password(&mut tx, user.id, before.as_deref(), &new).await? {
        return Err(Error::Conflict(
            "Your password was changed meanwhile; sign in with the one it is now.".into(),
        ));
    }
    sessions::end_of(&mut tx, user.id).await?;
    let subject = json!({ "by": "account" });
    let now = app.clock.now();
    audit::record_person(
        &mut tx,
        &Actor::User(user.id),
        "user.set_password",
        subject,
        now,
    )
    .await?;
    tx.commit().await?;
    sessions::establish(session, user).await
}

/// Takes away all by which someone signs in, and ends the browser sessions that came of it: password,
/// account at GitHub, links. Answers with the token of a one-time link by which they choose a new
/// password. API tokens stay, and what they allowed apps.
pub async fn reset(db: &mut PgConnection, user: Uuid, now: OffsetDateTime) -> Result<String> {
    // One that nobody knows: without any they would be like somebody who was invited, whose link
    // admins of their organization may make.
    let unknown = password::hash(ids::random_token("")).await?;
    users::store_password(db, user, &unknown).await?;
    let github = identities::forget(db, user).await?;
    sessions::end_of(db, user).await?;
    users::delete_setup_links(db, user).await?;
    let subject = json!({ "user": user, "github_id": github });
    audit::record_person(db, &Actor::System, "user.reset_password", subject, now).await?;
    users::create_replacing_link(db, user, now).await
}
