//! A repository's own Dockerfile, built without the engine's builder: that one runs with the
//! engine's privileges, can be told to fetch programs and reads what a context leads to. Here its
//! instructions are interpreted, and each runs in a build container.
//!
//! Of the image only its files, `ENV`, `WORKDIR`, `ENTRYPOINT`, `CMD`, `SHELL` and `EXPOSE` count;
//! instances are confined, checked and stopped as all others are.

mod base;
mod contained;
mod context;
mod copying;
mod expand;
mod failed;
mod mount;
mod official;
mod parse;
mod stages;
pub mod steps;
mod walk;

use std::collections::BTreeMap;

use super::environment_reads;
use super::halt::Halt;
use super::node;
use super::plan;
use super::tree::{FileTree, directory_of};
use crate::diagnose::{Code, diagnosis};
use crate::protocol::{self, BuildSettings, Diagnosis};
use crate::record::Start;
use crate::variables::PORT;

pub use base::{Base, Offer};
use context::Context;
use parse::Parsed;
use stages::{Config, Known, Stages};

/// Where a Dockerfile usually is.
pub const FILE: &str = "Dockerfile";

/// How to build and start a source by its Dockerfile.
pub struct DockerfilePlan {
    /// The Dockerfile, from the root directory.
    file: String,
    /// The root directory, relative to the source.
    root: String,
    parsed: Parsed,
    context: Context,
    /// What is done.
    stages: Stages,
    settings: BuildSettings,
    /// The same for people.
    pub plan: protocol::Plan,
}

impl std::fmt::Debug for DockerfilePlan {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("DockerfilePlan");
        shown.field("file", &self.file).finish_non_exhaustive()
    }
}

/// What a plan is asked of.
pub struct Asked<'a> {
    /// The root directory in the source.
    pub root: &'a str,
    /// Its files.
    pub view: &'a FileTree,
    /// How it is to be built and started.
    pub settings: &'a BuildSettings,
    /// What it can stand on.
    pub offer: Offer<'a>,
    /// Stops it.
    pub halt: &'a Halt,
}

/// Plans a source by its Dockerfile, which `why` says the choice of.
pub fn plan(asked: &Asked<'_>, file: &str, why: String) -> Result<DockerfilePlan, Diagnosis> {
    let settings = asked.settings;
    refuse_other_settings(settings)?;
    let text = asked.view.text(file).ok_or_else(|| {
        diagnosis(
            Code::ConfigurationInvalid,
            format!("The Dockerfile {file} is not in the source."),
            "Correct its path in the project's settings, which begins at the root directory, or clear it.",
        )
    })?;
    let parsed = parse::parse(file, &text)?;
    let context = Context::new(asked.view, file, asked.halt).map_err(|(why, fix)| {
        diagnosis(
            Code::ConfigurationInvalid,
            format!(".dockerignore cannot be read: {why}."),
            fix,
        )
    })?;
    let known = Known::new();
    let stages = walk::interpret(file, &parsed, &context, &asked.offer, &known, asked.halt)?;
    let last = stages.all.last().expect("there is one");
    let mut reasons: Vec<String> = plan::root_reason(asked.root).into_iter().collect();
    reasons.push(why);
    reasons.extend(stages.says.iter().cloned());
    // What an image that is pulled starts is known once it is here.
    let entrypoint = if matches!(bottom(&stages), Base::Pulled(_)) {
        String::new()
    } else {
        shell_words::join(start_command(file, &last.config, settings)?.command)
    };
    reasons.extend(port_reason(&last.config));
    if !settings.start_command.is_empty() {
        reasons.push("The start command is the server, in place of CMD: it was set.".to_owned());
    }
    let runtime = match bottom(&stages) {
        Base::Runtime(name) | Base::Pulled(name) => name.clone(),
        Base::Stage(_) => unreachable!("the bottom is no stage"),
    };
    let plan = protocol::Plan {
        runtime,
        entrypoint,
        dependencies: file.to_owned(),
        system_packages: Vec::new(),
        build_command: Vec::new(),
        start_command: settings.start_command.clone(),
        reasons,
        reads: environment_reads::scan(asked.view),
        example: environment_reads::example(asked.view, directory_of(file)),
    };
    Ok(DockerfilePlan {
        file: file.to_owned(),
        root: asked.root.to_owned(),
        parsed,
        context,
        stages,
        settings: settings.clone(),
        plan,
    })
}

/// The Dockerfile that the settings name, from the root directory.
pub fn set_file(settings: &BuildSettings) -> Result<Option<String>, Diagnosis> {
    let Some(set) = settings.dockerfile.as_deref() else {
        return Ok(None);
    };
    let path = plan::path_within("", set).filter(|path| !path.is_empty());
    path.map(Some).ok_or_else(|| {
        diagnosis(
            Code::ConfigurationInvalid,
            format!("The Dockerfile {set} is not inside the root directory."),
            "Write it from the root directory, without a leading slash and without `..`, like deploy/Dockerfile.",
        )
    })
}

/// What stands in a Dockerfile where there is one.
fn refuse_other_settings(settings: &BuildSettings) -> Result<(), Diagnosis> {
    let set = [
        ("dependency file", settings.dependency_file.is_some()),
        ("build command", !settings.build_command.is_empty()),
        ("system packages", !settings.system_packages.is_empty()),
    ];
    match set.iter().find(|(_, is_set)| *is_set) {
        None => Ok(()),
        Some((name, _)) => Err(diagnosis(
            Code::ConfigurationInvalid,
            format!("The {name} of the project's settings and a Dockerfile exclude each other."),
            format!(
                "Clear the {name} and do the same with RUN in the Dockerfile, or clear the Dockerfile."
            ),
        )),
    }
}

/// What the last stage stands on in the end.
fn bottom(stages: &Stages) -> &Base {
    let mut stage = stages.all.last().expect("there is one");
    loop {
        match &stage.base {
            Base::Stage(number) => stage = &stages.all[*number],
            base => return base,
        }
    }
}

/// The port that an image listens on: what it says itself, or the platform's.
fn port(config: &Config) -> u16 {
    let set = config
        .environment
        .get("PORT")
        .and_then(|port| port.parse().ok());
    let only = || {
        let mut ports = config.ports.iter();
        ports.next().copied().filter(|_| ports.next().is_none())
    };
    set.or_else(only).filter(|port| *port != 0).unwrap_or(PORT)
}

fn port_reason(config: &Config) -> Option<String> {
    let port = port(config);
    (port != PORT).then(|| {
        let by = if config.environment.contains_key("PORT") {
            "ENV PORT"
        } else {
            "EXPOSE"
        };
        format!("The server listens on port {port}: {by} says so.")
    })
}

/// What is started.
fn start_command(
    file: &str,
    config: &Config,
    settings: &BuildSettings,
) -> Result<Start, Diagnosis> {
    let mut command = if settings.start_command.is_empty() {
        config.entrypoint.clone()
    } else {
        node::expanded_words(&settings.start_command, port(config))
    };
    if settings.start_command.is_empty() {
        command.extend(config.command.iter().cloned());
    }
    if command.first().is_none_or(String::is_empty) {
        return Err(diagnosis(
            Code::DockerfileNothingToStart,
            format!(
                "{file} says nothing of what is to be started: its last stage has no CMD and no ENTRYPOINT."
            ),
            "Add a CMD, for example CMD [\"python\", \"server.py\"], or set a start command.",
        ));
    }
    Ok(Start {
        command,
        working_dir: config.working_dir.clone(),
    })
}

/// What the server finds in its environment: `ENV`, without what the platform decides.
fn environment(config: &Config) -> BTreeMap<String, String> {
    let mut environment = config.environment.clone();
    for decided in ["PORT", "HOST", "HOME"] {
        environment.remove(decided);
    }
    environment
}

#[cfg(test)]
mod tests;
