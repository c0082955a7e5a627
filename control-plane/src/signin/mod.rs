//! How people sign in: a password, GitHub, the one-time link of the first start, and the browser
//! session that follows.

pub mod address;
pub mod attempts;
mod creating;
pub mod csrf;
mod github;
pub mod new_password;
pub mod next;
pub mod page;
mod password;
pub mod person;
pub mod sessions;
mod setup;
mod signout;

#[cfg(test)]
mod tests;

use axum::Router;
use axum::routing::{get, post};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::app::App;
use crate::error::Result;
use crate::users;

pub use attempts::{admit_address, admit_attempt, forget_attempts};
pub use creating::{Report, find_report};
pub use csrf::{CsrfForm, CsrfToken, check_csrf_header};
pub use person::{SignedIn, find_session_user};
pub use sessions::session_layer;

/// The pages of signing in and out. Needs [`session_layer`] around it.
pub fn router() -> Router<App> {
    Router::new()
        .route("/signin", get(password::show).post(password::sign_in))
        .route("/setup/{token}", get(setup::show).post(setup::set_password))
        .route("/signin/github", post(github::begin))
        .route(
            crate::github::manifest::CALLBACK_PATH,
            get(github::come_back),
        )
        .route("/signout", post(signout::sign_out))
}

/// Forgets sessions and one-time links that have expired.
pub async fn purge_expired(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    sessions::purge_expired(db, now).await?;
    users::purge_setup_links(db, now).await?;
    Ok(())
}
