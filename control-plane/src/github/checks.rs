//! Checks: the place of what GitHub shows beside commits.

use sqlx::PgConnection;

use super::deliveries::Delivery;
use super::events::Outcome;
use super::failure::Failure;
use crate::app::App;

/// Acts on what happened to a check of ours, such as a request to run it again. Berth makes none yet.
#[expect(clippy::unused_async, reason = "every event is taken in the same way")]
pub async fn take(
    _app: &App,
    _db: &mut PgConnection,
    _delivery: &Delivery,
) -> Result<Outcome, Failure> {
    Ok(Outcome::Ignored("Berth makes no checks."))
}
