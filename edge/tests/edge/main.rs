//! The edge between real sockets: what passes, what does not, and what comes back.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod api_tokens;
mod auth;
mod draining;
mod framing;
mod harness;
mod identity;
mod modes;
mod passing;
mod previews;
mod refusing;
mod reporting;
mod routing;
mod streaming;
mod withdrawing;
