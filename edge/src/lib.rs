//! The edge: the public listener of the platform.
//!
//! It serves `PROJECT.<apps domain>/mcp` from a route snapshot and passes the dashboard's host on
//! to the control plane. It knows no database: the snapshot comes by a long poll, is kept on disk,
//! and serves on while the control plane is away.
//!
//! A request's way: `connections` (a place) → `spread` (a thread) → `server` (host → who answers) → `project`, which asks
//! `admit` (path and mode in `access`, origin in `cors`, token in `auth` and `caller`, MCP session in
//! `session`) and takes a place in `limit` → `reach` (the instance, held until it takes connections)
//! → `asked` with `headers` and `identity` (what the instance is told) → `forward` (streams both
//! ways over a connection of `pool`, written by `sending` and read by `response`).

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a panic is how a test fails")
)]

mod access;
mod admit;
mod alarm;
mod asked;
mod auth;
mod body;
mod call_group;
mod caller;
mod client;
mod clock;
mod config;
mod connections;
mod control;
mod cors;
mod dashboard;
mod directory;
mod endpoint;
mod error;
mod forward;
mod framing;
mod headers;
mod host;
mod identity;
mod limit;
mod listen;
mod metadata;
mod pool;
mod project;
pub mod protocol;
mod reach;
mod report;
mod response;
mod scan;
mod sending;
mod server;
mod session;
mod session_file;
mod site;
mod snapshot;
mod spread;
mod steps;
mod streams;
mod table;
mod target;
mod usage;
mod wanted;
mod worker;

pub use config::{Config, Threads, Times, TrustedProxies};
pub use listen::Listeners;
pub use server::{run, run_on, run_with};
