//! GitHub: the platform's App, sign-in, installations and repositories, and webhooks.
//!
//! A push comes live like this: [`webhook`] proves the signature and writes the delivery down;
//! [`worker`] takes it in order; [`events`] finds the projects that follow the branch; [`links`] asks
//! GitHub for the branch's head and queues a deployment of that commit. The clock does the last two
//! steps as well, so that a lost delivery costs minutes and nothing else. What GitHub shows of it is
//! told by [`feedback`].

pub mod attempts;
pub mod authorize;
pub mod checks;
pub mod choices;
pub mod client;
pub mod creation;
pub mod deliveries;
pub mod events;
pub mod failure;
pub mod feedback;
pub mod following;
pub mod identities;
pub mod installations;
pub mod links;
pub mod manifest;
pub mod proofs;
pub mod pull_requests;
pub mod references;
pub mod registration;
pub mod rest;
pub mod rules;
pub mod tokens;
pub mod webhook;
pub mod worker;

#[cfg(test)]
mod tests;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::app::App;
use crate::clock::Clock;
use crate::config::ServeConfig;
use crate::error::Result;

pub use failure::Failure;

/// What talks to GitHub, shared by everything that does.
#[derive(Debug)]
pub struct GitHub {
    /// The client of its API.
    pub client: client::Client,
    /// Who waits for tokens.
    pub turns: tokens::Turns,
    /// Who waits for tokens that write what GitHub shows.
    pub feedback_turns: tokens::Turns,
    /// Who reads the list of an installation's repositories.
    pub listings: tokens::Turns,
}

impl GitHub {
    /// For the GitHub that the settings name.
    pub fn new(config: &ServeConfig, clock: Clock) -> anyhow::Result<Self> {
        Ok(Self {
            client: client::Client::new(config, clock)?,
            turns: tokens::Turns::default(),
            feedback_turns: tokens::Turns::default(),
            listings: tokens::Turns::default(),
        })
    }
}

/// Where webhooks arrive. It has no browser session.
pub fn router() -> Router<App> {
    Router::new()
        .route(manifest::WEBHOOK_PATH, post(webhook::receive))
        .layer(DefaultBodyLimit::disable())
}

/// Forgets what has ended.
pub async fn purge(db: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    attempts::purge_expired(db, now).await?;
    tokens::purge_expired(db, now).await?;
    deliveries::purge(db, now).await?;
    Ok(())
}
