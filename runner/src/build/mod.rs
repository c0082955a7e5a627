//! From a source to something that can be started: obtain it, plan it, install what it needs.

mod access;
pub mod archive;
pub mod catalogue;
pub mod command;
mod commit;
mod configuration;
pub mod container;
mod debian;
mod dependencies;
mod disk;
pub mod dockerfile;
mod entrypoint;
pub mod environment;
pub mod environment_reads;
pub mod fetch;
#[cfg(test)]
mod git_server;
mod git_url;
pub mod halt;
pub mod language;
mod names;
mod node;
pub mod pipeline;
pub mod plan;
mod poetry;
mod pyproject;
mod python;
mod requirements;
pub mod source;
pub mod system;
mod taken;
pub mod transport;
pub(crate) mod tree;
mod upload;
pub mod wheels;
