//! Node and the packages of the Node clients; tests/run installs both into the cache.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::python;

/// The Node that the clients run on: the major version which the conformance suite needs.
pub fn program() -> PathBuf {
    crate::cache().join("node/node_modules/node/bin/node")
}

/// Where the packages of `tests/clients/node/package.json` are installed.
pub fn packages() -> PathBuf {
    crate::cache().join("node-clients")
}

/// A program of `tests/clients/node`, to be given its arguments.
pub fn client(name: &str) -> Result<Command> {
    command(python::client("node").join(name))
}

/// The conformance suite of the protocol's own project.
pub fn conformance() -> Result<Command> {
    command(packages().join("node_modules/@modelcontextprotocol/conformance/dist/index.js"))
}

fn command(script: PathBuf) -> Result<Command> {
    for needed in [&program(), &packages(), &script] {
        ensure!(
            needed.exists(),
            "{} is missing; run ./tests/run, which installs it",
            needed.display()
        );
    }
    let mut command = Command::new(program());
    command.arg(script).env("TEST_NODE_PACKAGES", packages());
    Ok(command)
}
