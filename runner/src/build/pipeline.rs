//! One build: fetch, plan, system packages, environment, build command. What it finds is reported as
//! it goes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::catalogue;
use super::command;
use super::container::{Failure, Site};
use super::dockerfile::{self, Offer};
use super::environment::{Layout, Request};
use super::halt::{self, Halt};
use super::language::{self, Planned};
use super::node;
use super::plan::{BuildPlan, FileTree};
use super::source::{SourceTree, UploadSource};
use super::system;
use super::wheels;
use crate::agent::Agent;
use crate::diagnose::{self, Code, Evidence};
use crate::instance;
use crate::logs::LogWriter;
use crate::protocol::{self, BuildSettings, DeploymentSpec, Diagnosis, LogStream, Phase, Source};
use crate::record::Built;
use crate::runtime::{Exit, Image, Owner, Runtime};
use crate::store;
use crate::variables::{self, OF_BUILD};
use crate::verdict;

/// Why a build has no result.
pub enum Stop {
    /// It failed.
    Failed(Diagnosis),
    /// Nobody wants it any more.
    Canceled,
}

impl From<Diagnosis> for Stop {
    fn from(diagnosis: Diagnosis) -> Self {
        Self::Failed(diagnosis)
    }
}

/// Builds a deployment and remembers the result; or reports why not. Returns whether it can be
/// started.
pub async fn build<R: Runtime>(
    agent: &Agent<R>,
    spec: &DeploymentSpec,
    uploads: &dyn UploadSource,
    canceled: &CancellationToken,
) -> bool {
    let deployment = spec.deployment;
    let opened = match variables::open(&agent.keys, spec) {
        Ok(opened) => opened,
        Err(name) => {
            agent.fail(deployment, instance::sealed_for_another(&name));
            return false;
        }
    };
    // Before the first line of the log.
    agent.learn_secrets(deployment, &opened.secrets);
    let log = agent.log(deployment, LogStream::Build);
    agent.update(deployment, |record| {
        record.report.phase = Phase::Building;
        record.report.upstream = None;
        record.report.timings.clear();
    });
    let deadline = Instant::now() + Duration::from_secs(spec.limits.build_seconds);
    let begun = Begun {
        agent,
        spec,
        canceled,
        log: &log,
        deadline,
    };
    let done = begun.steps(uploads, &opened.build).await;
    if let Ok(installation) = agent.installation() {
        agent.memory.remove_build(installation, deployment);
    }
    match done {
        Ok((built, timings)) => {
            agent.update(deployment, |record| {
                // Only what other tools can install from is offered.
                record.report.lock = Some(built.lock.clone()).filter(|lock| !lock.is_empty());
                record.built = Some(built);
                record.report.phase = Phase::Starting;
                for (stage, ms) in &timings {
                    record.timing(stage, *ms);
                }
            });
            return true;
        }
        Err(Stop::Failed(diagnosis)) => agent.fail(deployment, diagnosis),
        // At shutdown it is not called off: it begins again with the next start.
        Err(Stop::Canceled) if agent.shutdown.is_cancelled() => {}
        Err(Stop::Canceled) => log.line("The build was called off."),
    }
    false
}

/// A build at work.
struct Begun<'a, R: Runtime> {
    agent: &'a Agent<R>,
    spec: &'a DeploymentSpec,
    canceled: &'a CancellationToken,
    log: &'a LogWriter,
    deadline: Instant,
}

impl<R: Runtime> Begun<'_, R> {
    async fn steps(
        &self,
        uploads: &dyn UploadSource,
        variables: &BTreeMap<String, String>,
    ) -> Result<(Built, Vec<(String, u64)>), Stop> {
        let (agent, spec) = (self.agent, self.spec);
        let installation = agent.installation().map_err(|error| platform(&error))?;
        // Making a network takes a fifth of a second: it is made while the source is fetched.
        let (prepared, network) = tokio::join!(
            self.prepare(uploads),
            agent.runtime.ensure_network(installation, spec.project),
        );
        let (source, planned) = prepared?;
        let network = network.map_err(|error| platform(&error.into()))?;
        let file = self.variables_file(installation, variables)?;
        let mark = variables::mark(spec);
        let both = self.canceled.child_token();
        let site = Site {
            owner: Owner {
                installation,
                project: spec.project,
                deployment: spec.deployment,
            },
            network: &network,
            programs: &agent.programs,
            variables_file: file.as_deref(),
            variables_mark: &mark,
            shares_wheels: agent.build_host.shares_wheels()
                && !variables.keys().any(|name| wheels::is_own_index(name)),
            deadline: self.deadline,
            disk_bytes: agent.build_host.disk_bytes,
            canceled: &both,
            log: self.log,
        };
        let called_off = async {
            agent.shutdown.cancelled().await;
            both.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            made = self.make(&site, &source, planned) => made,
            () = called_off => unreachable!("it never resolves"),
        }
    }

    /// The source's tree and its plan; a package of a registry is its own plan.
    async fn prepare(&self, uploads: &dyn UploadSource) -> Result<(PathBuf, Prepared), Stop> {
        let (agent, spec, log) = (self.agent, self.spec, self.log);
        if let Source::Package(package) = &spec.source {
            let (source, plan) = catalogue::prepare(agent, spec, package, log).await?;
            return Ok((source, Prepared::Package(Box::new(plan))));
        }
        let source = fetch(agent, spec, uploads, self.canceled, log, self.deadline).await?;
        let planned = self.plan(&source.path).await?;
        Ok((source.path, Prepared::Source(Box::new(planned))))
    }

    /// The plan of a source.
    async fn plan(&self, source: &Path) -> Result<Planned, Stop> {
        let (agent, spec) = (self.agent, self.spec);
        let begun = Instant::now();
        let images = agent.image_names().await;
        let path = source.to_owned();
        let entrypoint = spec.entrypoint.clone();
        let settings = spec.build.clone();
        let pull = agent.settings.pull_images.clone();
        let plan = halt::bounded(self.deadline, self.canceled, move |halt| {
            let offer = Offer {
                images: &images,
                pull: &pull,
            };
            plan_tree(&path, entrypoint.as_deref(), &settings, offer, halt)
        });
        let planned = tokio::select! {
            planned = plan => planned,
            () = agent.shutdown.cancelled() => return Err(Stop::Canceled),
        };
        let unknown = |_| diagnose::unknown_failure("Planning the source", &[]);
        let planned = planned.map_err(|failure| self.stop(failure, unknown))??;
        for reason in &planned.plan().reasons {
            self.log.line(reason.clone());
        }
        agent.update(spec.deployment, |record| {
            record.report.plan = Some(planned.plan().clone());
            record.timing("plan", elapsed_ms(begun));
        });
        Ok(planned)
    }

    /// The file with the variables of builds, in memory.
    fn variables_file(
        &self,
        installation: Uuid,
        variables: &BTreeMap<String, String>,
    ) -> Result<Option<PathBuf>, Stop> {
        if variables.is_empty() {
            return Ok(None);
        }
        let memory = &self.agent.memory;
        let written = memory.write(installation, self.spec.deployment, OF_BUILD, variables);
        written.map(Some).map_err(|error| platform(&error))
    }

    /// What runs in containers.
    async fn make(
        &self,
        site: &Site<'_>,
        source: &Path,
        prepared: Prepared,
    ) -> Result<(Built, Vec<(String, u64)>), Stop> {
        let seconds = self.spec.limits.build_seconds;
        let prepared = match prepared {
            Prepared::Source(planned) => match *planned {
                Planned::Dockerfile(plan) => {
                    let work = dockerfile::steps::Work {
                        agent: self.agent,
                        site,
                        seconds,
                    };
                    return dockerfile::steps::build(&work, source, *plan).await;
                }
                planned => Prepared::Source(Box::new(planned)),
            },
            package @ Prepared::Package(_) => package,
        };
        let (image, mut timings) = self.image(site, prepared.plan()).await?;
        let work = node::steps::Work {
            agent: self.agent,
            site,
            image: &image,
            seconds,
        };
        let (built, more) = match prepared {
            Prepared::Package(plan) => catalogue::build(&work, self.spec, source, *plan).await?,
            Prepared::Source(planned) => match *planned {
                Planned::Node(plan) => node::steps::build(&work, source, plan).await?,
                Planned::Python(plan) => self.python(site, source, &image, plan).await?,
                Planned::Dockerfile(_) => unreachable!("it was built above"),
            },
        };
        timings.extend(more);
        Ok((built, timings))
    }

    /// The runtime image of a plan, with its system packages.
    async fn image(
        &self,
        site: &Site<'_>,
        plan: &protocol::Plan,
    ) -> Result<(Image, Vec<(String, u64)>), Stop> {
        let agent = self.agent;
        let images = agent.images().await;
        let image = images
            .into_iter()
            .find(|image| image.name == plan.runtime)
            .with_context(|| format!("the runtime image {} is gone", plan.runtime))
            .map_err(|error| platform(&error))?;
        if plan.system_packages.is_empty() {
            return Ok((image, Vec::new()));
        }
        let made = agent
            .systems
            .obtain(
                &agent.runtime,
                &agent.build_host,
                site,
                &image,
                &plan.system_packages,
            )
            .await;
        let made = made.map_err(|failure| self.system_failed(failure))?;
        Ok((made.image, made.timings))
    }

    /// A Python project's environment, and what its build command makes of its source.
    async fn python(
        &self,
        site: &Site<'_>,
        source: &Path,
        image: &Image,
        plan: BuildPlan,
    ) -> Result<(Built, Vec<(String, u64)>), Stop> {
        let (agent, host) = (self.agent, &self.agent.build_host);
        let request = Request {
            image,
            wheels_on: Some(&plan.plan.runtime),
            program: "environment.py",
            layout: Layout::Beside,
            version: &plan.python,
            declared: plan.dependencies.to_json(),
            inputs: plan.dependencies.inputs(),
            source,
        };
        let obtained = agent
            .environments
            .obtain(&agent.runtime, host, site, &request)
            .await
            .map_err(|failure| self.environment_failed(failure, &plan.plan.dependencies, source))?;
        let mut timings = obtained.timings;
        let mut source = source.to_owned();
        if !self.spec.build.build_command.is_empty() {
            let work = command::Work {
                command: &self.spec.build.build_command,
                source: &source,
                root: &plan.root,
                environment: &obtained.path,
                image: &image.name,
            };
            let made = command::obtain(&agent.directory, &agent.runtime, host, site, &work).await;
            let made = made.map_err(|failure| self.command_failed(failure))?;
            timings.extend(made.timings);
            source = made.tree;
        }
        let built = Built {
            source,
            environment: obtained.path,
            lock: obtained.lock,
            image: image.name.clone(),
            variables: plan.environment,
            entrypoint: plan.entrypoint,
            root: plan.root,
            start_command: self.spec.build.start_command.clone(),
            start: None,
            own_image: None,
        };
        Ok((built, timings))
    }

    fn environment_failed(&self, failure: Failure, dependencies: &str, source: &Path) -> Stop {
        let source = FileTree::open(source).ok();
        let known = Evidence {
            source: source.as_ref(),
            dependencies: Some(dependencies),
            ..Evidence::default()
        };
        self.stop(failure, |failed| match failed {
            Ok(account) => verdict::environment_said(account, &known),
            Err((exit, tail)) => verdict::environment_ended(exit, &tail),
        })
    }

    fn system_failed(&self, failure: Failure) -> Stop {
        self.stop(failure, |failed| match failed {
            Ok(account) => system::diagnose(&account)
                .unwrap_or_else(|| verdict::environment_said(account, &Evidence::default())),
            Err((exit, tail)) => verdict::environment_ended(exit, &tail),
        })
    }

    fn command_failed(&self, failure: Failure) -> Stop {
        self.stop(failure, |failed| match failed {
            Ok(account) => command::said(&account, &self.spec.build.build_command),
            Err((exit, tail)) => command::ended(exit, &tail),
        })
    }

    fn stop(
        &self,
        failure: Failure,
        diagnose: impl FnOnce(Result<Value, (Exit, Vec<String>)>) -> Diagnosis,
    ) -> Stop {
        stop(failure, self.spec.limits.build_seconds, diagnose)
    }
}

/// What is to be built.
enum Prepared {
    /// A source in its language.
    Source(Box<Planned>),
    /// A package of a registry.
    Package(Box<catalogue::PackagePlan>),
}

impl Prepared {
    fn plan(&self) -> &protocol::Plan {
        match self {
            Self::Source(planned) => planned.plan(),
            Self::Package(plan) => &plan.plan,
        }
    }
}

async fn fetch<R: Runtime>(
    agent: &Agent<R>,
    spec: &DeploymentSpec,
    uploads: &dyn UploadSource,
    canceled: &CancellationToken,
    log: &LogWriter,
    deadline: Instant,
) -> Result<SourceTree, Stop> {
    let begun = Instant::now();
    let obtain = agent
        .sources
        .obtain(&spec.source, uploads, log, deadline.into_std());
    // Dropping it stops it.
    let source = tokio::select! {
        source = obtain => source?,
        () = canceled.cancelled() => return Err(Stop::Canceled),
        () = agent.shutdown.cancelled() => return Err(Stop::Canceled),
    };
    agent.update(spec.deployment, |record| {
        record.report.commit = Some(source.commit.clone());
        record.timing("fetch", elapsed_ms(begun));
    });
    // A source is its entry's tree.
    if let Some(entry) = source.path.parent() {
        store::touch(entry);
    }
    Ok(source)
}

fn plan_tree(
    source: &Path,
    entrypoint: Option<&str>,
    settings: &BuildSettings,
    offer: Offer<'_>,
    halt: &Halt,
) -> Result<Planned, Diagnosis> {
    let tree = FileTree::open(source).map_err(|error| {
        diagnose::platform_failure(format!("The source cannot be read: {error}."))
    })?;
    language::plan_source(&tree, entrypoint, settings, offer, halt).map_err(|found| {
        let is_missing = [Code::EntrypointNotFound, Code::NoEntrypoint]
            .iter()
            .any(|code| found.code == code.as_str());
        let left_out = diagnose::excluded(&tree, entrypoint);
        left_out.filter(|_| is_missing).unwrap_or(found)
    })
}

/// From a failed build to what is reported; `diagnose` knows the program's account, or how it ended
/// without one. `seconds` is how long a build may take.
pub fn stop(
    failure: Failure,
    seconds: u64,
    diagnose: impl FnOnce(Result<Value, (Exit, Vec<String>)>) -> Diagnosis,
) -> Stop {
    Stop::Failed(match failure {
        Failure::Canceled => return Stop::Canceled,
        Failure::TimedOut => diagnose::build_timeout(seconds),
        Failure::TooLarge(limit) => diagnose::build_too_large(limit),
        Failure::DiskUsedUp => diagnose::build_used_up_disk(),
        Failure::Said(account) => diagnose(Ok(account)),
        Failure::Ended(exit, tail) => diagnose(Err((exit, tail))),
        Failure::Platform(error) => return platform(&error),
    })
}

/// The details are for the runner's log; the user can do nothing with them.
pub fn platform(error: &anyhow::Error) -> Stop {
    tracing::error!(
        error = format!("{error:#}"),
        "a build failed through no fault of its own"
    );
    Stop::Failed(diagnose::platform_failure(format!(
        "The runner could not build it: {error}."
    )))
}

/// Milliseconds since `begun`.
pub fn elapsed_ms(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
