//! The command line: one file a subcommand. Roles and operators' commands work on this machine;
//! the client commands talk to a server through its API.

mod access;
mod admin;
mod all;
mod apps;
mod bridge;
mod call;
mod cancel;
mod client;
mod connect;
mod connections;
mod credentials;
mod data;
mod deploy;
mod deployments;
mod diff;
mod doctor;
mod edge;
mod env;
mod exit;
mod follow;
mod github;
mod init;
mod lock;
mod login;
mod logs;
mod mcp;
mod members;
mod migrate;
mod open;
mod output;
mod pack;
mod plan;
mod previews;
mod projects;
mod promote;
mod rollback;
mod runner;
mod serve;
mod service_accounts;
mod settings;
mod tokens;
mod tools;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::refuse_unknown_variables;
use crate::telemetry::{self, LogConfig};
use exit::CODES;
use output::Output;

/// What roles log. Postgres' notices tell the operator nothing.
const ROLES_LOG: &str = "info,sqlx=warn,sqlx::postgres::notice=error";

/// Your own cloud for MCP servers.
#[derive(Debug, Parser)]
#[command(name = "berth", version, propagate_version = true, after_help = CODES)]
pub struct Program {
    #[command(flatten)]
    log: LogConfig,

    /// Print one JSON document as the last line of stdout.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole platform in one process.
    All(Box<all::Arguments>),
    /// Run the control plane: dashboard, API and authorization server.
    Serve(Box<serve::Arguments>),
    /// Run the edge: the public listener.
    Edge(edge::Arguments),
    /// Run a runner: builds sources and runs instances.
    Runner(runner::Arguments),
    /// Bring the database's schema up to this version.
    Migrate(Box<migrate::Arguments>),
    /// Check this machine and the server, and say how to mend what is wrong.
    Doctor(Box<doctor::Arguments>),
    /// Commands for the operator, on the machine itself.
    Admin(Box<admin::Arguments>),
    /// Start a server inside its instance; the runner does.
    #[command(hide = true)]
    Bridge(bridge::Arguments),
    /// Pass a program's output on, within bounds; the runner starts it in containers.
    #[command(hide = true)]
    Guard(bridge::GuardArguments),
    /// Do one step of a Dockerfile inside its container; the runner does.
    #[command(hide = true)]
    Step,
    /// Sign in to a server.
    Login(login::Arguments),
    /// List, show or delete projects.
    Projects(projects::Arguments),
    /// Show and change who may call a project.
    Access(access::Arguments),
    /// List, add, change and remove the members of your organization.
    Members(members::Arguments),
    /// List, create and delete service accounts: callers that are no person.
    ServiceAccounts(service_accounts::Arguments),
    /// Show what would be built of a directory, a Git repository or a package, and why; builds nothing.
    Plan(plan::Arguments),
    /// Write the files of a template, to begin with; without a name, list the templates.
    Init(init::Arguments),
    /// Deploy a directory, a Git repository, a package of a registry, or another commit of a project's own.
    Deploy(deploy::Arguments),
    /// List repositories at GitHub, and have projects follow them.
    #[command(name = "github")]
    GitHub(github::Arguments),
    /// Show and change how a project is built and started.
    Settings(settings::Arguments),
    /// Print the lock file of what a deployment's build resolved.
    Lock(lock::Arguments),
    /// List a project's deployments.
    Deployments(deployments::Arguments),
    /// List the previews of a project's pull requests, and approve those of forks.
    Previews(previews::Arguments),
    /// Show what a deployment changes for those who call it.
    Diff(diff::Arguments),
    /// Show what a server, or its build, has written.
    Logs(logs::Arguments),
    /// List and change a project's environment variables.
    Env(env::Arguments),
    /// Take back a deployment that has not gone live, or is held.
    Cancel(cancel::Arguments),
    /// Bring a deployment live: one that is held, or an earlier one again.
    Promote(promote::Arguments),
    /// Bring the deployment before the live one back.
    Rollback(rollback::Arguments),
    /// List the tools of a project's live server.
    Tools(tools::Arguments),
    /// Show what clients did to connect to a project, and why one does not.
    Connections(connections::Arguments),
    /// Call a tool through the project's public URL.
    Call(call::Arguments),
    /// List connected apps and end their access.
    Apps(apps::Arguments),
    /// Show how MCP clients are told of a project.
    Connect(connect::Arguments),
    /// Create, list and revoke API tokens.
    Tokens(tokens::Arguments),
    /// Open a project's page in the browser.
    Open(open::Arguments),
}

impl Command {
    /// Whether this runs until it is told to stop, and its log is what people read.
    fn is_role(&self) -> bool {
        matches!(
            self,
            Self::All(_) | Self::Serve(_) | Self::Edge(_) | Self::Runner(_)
        )
    }
}

impl Program {
    /// Whether this process is part of an instance and not of the platform.
    pub fn runs_in_an_instance(&self) -> bool {
        matches!(
            self.command,
            Command::Bridge(_) | Command::Guard(_) | Command::Step
        )
    }

    /// Runs what was asked for; an error is printed and becomes the exit code.
    pub async fn run(self) -> ExitCode {
        let output = Output::new(self.json);
        match self.dispatch(output).await {
            Ok(code) => code,
            Err(error) => output.failure(&error),
        }
    }

    async fn dispatch(self, output: Output) -> anyhow::Result<ExitCode> {
        // Its output is the server's log, and its environment the server's.
        match self.command {
            Command::Bridge(arguments) => return bridge::run(arguments).await,
            Command::Guard(arguments) => return bridge::guard(arguments).await,
            Command::Step => return bridge::step(),
            _ => {}
        }
        let level = if self.command.is_role() {
            ROLES_LOG
        } else {
            "warn"
        };
        telemetry::start(&self.log, level)?;
        refuse_unknown_variables(&Self::command())?;
        match self.command {
            Command::All(arguments) => all::run(*arguments).await,
            Command::Serve(arguments) => serve::run(*arguments).await,
            Command::Edge(arguments) => edge::run(arguments).await,
            Command::Runner(arguments) => runner::run(arguments).await,
            Command::Migrate(arguments) => migrate::run(*arguments).await,
            Command::Doctor(arguments) => doctor::run(*arguments, output).await,
            Command::Admin(arguments) => admin::run(*arguments, output).await,
            Command::Bridge(_) | Command::Guard(_) | Command::Step => {
                unreachable!("it was run above")
            }
            Command::Login(arguments) => login::run(arguments, output).await,
            Command::Projects(arguments) => projects::run(arguments, output).await,
            Command::Access(arguments) => access::run(arguments, output).await,
            Command::Members(arguments) => members::run(arguments, output).await,
            Command::ServiceAccounts(arguments) => service_accounts::run(arguments, output).await,
            Command::Plan(arguments) => plan::run(arguments, output).await,
            Command::Settings(arguments) => settings::run(arguments, output).await,
            Command::Lock(arguments) => lock::run(arguments, output).await,
            Command::Init(arguments) => init::run(arguments, output),
            Command::Deploy(arguments) => deploy::run(arguments, output).await,
            Command::GitHub(arguments) => github::run(arguments, output).await,
            Command::Deployments(arguments) => deployments::run(arguments, output).await,
            Command::Previews(arguments) => previews::run(arguments, output).await,
            Command::Diff(arguments) => diff::run(arguments, output).await,
            Command::Logs(arguments) => logs::run(arguments, output).await,
            Command::Env(arguments) => env::run(arguments, output).await,
            Command::Cancel(arguments) => cancel::run(arguments, output).await,
            Command::Promote(arguments) => promote::run(arguments, output).await,
            Command::Rollback(arguments) => rollback::run(arguments, output).await,
            Command::Tools(arguments) => tools::run(arguments, output).await,
            Command::Connections(arguments) => connections::run(arguments, output).await,
            Command::Call(arguments) => call::run(arguments, output).await,
            Command::Apps(arguments) => apps::run(arguments, output).await,
            Command::Connect(arguments) => connect::run(arguments, output).await,
            Command::Tokens(arguments) => tokens::run(arguments, output).await,
            Command::Open(arguments) => open::run(arguments, output).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Program::command().debug_assert();
    }

    #[test]
    fn whoever_approves_names_the_commit() {
        let line = ["berth", "previews", "approve", "demo", "pr-1"];
        assert!(Program::try_parse_from(line).is_err());
        let named = line.into_iter().chain(["--commit", "0123"]);
        assert!(Program::try_parse_from(named).is_ok());
    }
}
