//! The edge: the public listener of the platform.
//!
//! It serves `PROJECT.<apps domain>/mcp` from a route snapshot and passes the dashboard's host on
//! to the control plane. It knows no database: the snapshot comes by a long poll, is kept on disk,
//! and serves on while the control plane is away.
//!
//! A request's way: `connections` (a place) → `server` (host → who answers) → `project` (origin,
//! token in `auth`, place in `limit`, MCP session in `session`) → `reach` (the instance, held until
//! it takes connections) → `forward` (streams both ways over a connection of `pool`).

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a panic is how a test fails")
)]

mod auth;
mod body;
mod client;
mod config;
mod connections;
mod cors;
mod dashboard;
mod error;
mod forward;
mod framing;
mod headers;
mod host;
mod limit;
mod listen;
mod metadata;
mod pool;
mod project;
pub mod protocol;
mod reach;
mod server;
mod session;
mod snapshot;
mod table;

pub use config::{Config, TrustedProxies};
pub use listen::Listeners;
pub use server::{run, run_on};
