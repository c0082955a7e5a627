//! From a source to something that can be started: obtain it, plan it, install what it needs.

pub mod address;
pub mod archive;
mod configuration;
mod dependencies;
mod entrypoint;
pub mod environment;
pub mod fetch;
#[cfg(test)]
mod git_server;
pub mod pipeline;
pub mod plan;
mod python;
pub mod source;
pub mod transport;
mod tree;
