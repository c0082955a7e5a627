//! From a source to something that can be started: obtain it, plan it, install what it needs.

pub mod archive;
mod catalogue;
mod commit;
mod configuration;
mod dependencies;
mod entrypoint;
pub mod environment;
pub mod fetch;
#[cfg(test)]
mod git_server;
mod git_url;
mod names;
mod node;
pub mod pipeline;
pub mod plan;
mod python;
mod requirements;
pub mod source;
pub mod transport;
mod tree;
mod upload;
