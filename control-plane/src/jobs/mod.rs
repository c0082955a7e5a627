//! What happens by the clock: drains end, what expired is purged, logs are trimmed.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::error::Result;
use crate::{
    connections, deployments, edges, github, grants, locks, login_codes, logs,
    pending_authorizations, plans, previews, signin, uploads, usage,
};

/// Drains end within this long of their time.
const TICK: Duration = Duration::from_secs(1);

/// A new signing key is taken up, and silent edges are forgotten, within this many ticks.
const TICKS_BETWEEN_LOOKS: u64 = 10;

/// Purging is for tidiness, not for correctness: everything expired is refused anyway.
const TICKS_BETWEEN_PURGES: u64 = 300;

/// Runs the timers until shut down. A failure is logged and tried again with the next tick.
pub async fn run(app: App, shutdown: CancellationToken) {
    let mut timer = interval(TICK);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks = 0_u64;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = timer.tick() => {}
        }
        if let Err(error) = tick(&app, ticks).await {
            tracing::warn!(%error, "a timed job failed; it runs again shortly");
        }
        ticks += 1;
    }
}

async fn tick(app: &App, ticks: u64) -> Result<()> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    deployments::end_drains(&mut tx, now).await?;
    tx.commit().await?;
    // It has projects before deployments, and drains lock these.
    let mut tx = app.db.begin().await?;
    deployments::end_abandoned(&mut tx, now).await?;
    tx.commit().await?;
    if ticks.is_multiple_of(TICKS_BETWEEN_LOOKS) {
        let mut db = app.db.acquire().await?;
        app.keys.refresh(&mut db, &app.kek, now).await?;
        edges::forget_silent(&mut db, now).await?;
        if let Some(idle) = app.config.preview_sleep() {
            previews::sleep::put_to_sleep(&app.db, idle, now).await?;
        }
    }
    if ticks.is_multiple_of(TICKS_BETWEEN_PURGES) {
        let mut db = app.db.acquire().await?;
        signin::purge_expired(&mut db, now).await?;
        grants::purge_expired(&mut db, now).await?;
        pending_authorizations::purge_expired(&mut db, now).await?;
        login_codes::purge_expired(&mut db, now).await?;
        logs::trim(&mut db, now).await?;
        uploads::sweep(&mut db, &app.config.data, now).await?;
        locks::sweep(&mut db).await?;
        plans::purge(&mut db, now).await?;
        usage::purge(&mut db, now).await?;
        connections::purge(&mut db, now).await?;
        github::purge(&mut db, now).await?;
    }
    Ok(())
}
