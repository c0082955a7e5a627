//! The pages about GitHub: the operator's, and everybody's repositories.

pub mod deliveries;
mod existing;
pub mod repositories;
pub mod settings;

use axum::Router;
use axum::routing::{get, post};

use crate::app::App;
use crate::error::{Error, Result};
use crate::github::manifest::{CREATED_PATH, SETUP_PATH};
use crate::organizations;
use crate::signin::SignedIn;

/// Everything about GitHub that people see.
pub fn router() -> Router<App> {
    Router::new()
        .route("/settings/github", get(settings::show))
        .route("/settings/github/manifest", post(settings::send_manifest))
        .route(CREATED_PATH, get(settings::created))
        .route("/settings/github/existing", post(settings::take_existing))
        .route("/settings/github/secret", post(settings::rotate))
        .route("/settings/github/sign-up", post(settings::set_sign_up))
        .route("/settings/github/allow", post(settings::allow))
        .route("/settings/github/disallow", post(settings::disallow))
        .route("/settings/github/remove", post(settings::remove))
        .route("/settings/github/deliveries", get(deliveries::show))
        .route("/github", get(repositories::show))
        .route("/github/install", post(repositories::install))
        .route("/github/connect", post(repositories::connect))
        .route(SETUP_PATH, get(repositories::installed))
}

/// Refuses everyone but those who run the platform.
async fn operator_only(app: &App, person: &SignedIn) -> Result<()> {
    let mut db = app.db.acquire().await?;
    if organizations::is_operator(&mut db, person.user.id).await? {
        return Ok(());
    }
    Err(Error::Forbidden(
        "Only owners and admins of the platform's first organization set GitHub up; ask one of them.".into(),
    ))
}
