//! The edge between real sockets: what passes, what does not, and what comes back.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod auth;
mod harness;
mod passing;
mod refusing;
mod routing;
mod streaming;
