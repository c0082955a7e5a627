//! Pull requests: the place of previews.

use sqlx::PgConnection;

use super::deliveries::Delivery;
use super::events::Outcome;
use super::failure::Failure;
use crate::app::App;

/// Acts on what happened to a pull request. There are no previews yet.
#[expect(clippy::unused_async, reason = "every event is taken in the same way")]
pub async fn take(
    _app: &App,
    _db: &mut PgConnection,
    _delivery: &Delivery,
) -> Result<Outcome, Failure> {
    Ok(Outcome::Ignored("Pull requests have no previews here."))
}
