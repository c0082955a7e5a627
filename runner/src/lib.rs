//! Builds sources and runs instances on a container engine.
//!
//! A runner is told what it should have ([`protocol`]), looks at what it has, and works on the
//! difference ([`reconcile`]). It keeps no state that matters: what runs is found on the engine by
//! label, and what is known of a deployment is reported whole in every message.

use std::sync::Arc;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

mod agent;
pub mod build;
pub mod catalogue;
mod check;
mod client;
mod clock;
pub mod config;
pub mod diagnose;
mod doctor;
mod follow;
mod hash;
mod health;
mod instance;
pub mod keys;
mod launcher;
pub mod limits;
mod liveness;
pub mod logs;
#[cfg(test)]
mod loop_tests;
pub mod network;
mod planning;
pub mod protocol;
mod reconcile;
mod record;
mod redis;
pub mod runtime;
mod store;
mod sync;
mod variables;
mod verdict;
pub mod volumes;
mod work;

pub use config::{Config, Settings};
pub use doctor::{Finding, Health, Removed, check, remove_all};
pub use planning::plan_archive;

use agent::Agent;
use runtime::docker::DockerRuntime;

/// Runs until `shutdown`. Instances are left running: they are found again at the next start, or
/// removed by [`remove_all`]. Builds in progress are called off.
///
/// Fails only when it cannot begin: no engine, no usable data directory, no token. Later the
/// engine and the control plane may come and go.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let settings = &config.settings;
    let runtime = DockerRuntime::connect(&settings.docker_host, settings.network_pool)
        .await
        .with_context(|| {
            format!(
                "no container engine answers at {}: start it, or set DOCKER_HOST",
                settings.docker_host
            )
        })?;
    let control = sync::Control::new(&config)?;
    let agent = Arc::new(Agent::new(&config, runtime, shutdown.clone())?);
    tracing::info!(runner.id = %agent.id, data = %agent.directory.display(), "runner started");
    tokio::join!(
        sync::sync(&control, &agent),
        sync::send_logs(&control, &agent),
        planning::answer(&control, &agent),
        work::work(&agent, Arc::new(control.clone())),
    );
    Ok(())
}
