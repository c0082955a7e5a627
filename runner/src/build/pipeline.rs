//! One build: fetch, plan, environment. What it finds is reported as it goes.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::catalogue;
use super::environment::{Failure, Layout, Obtained, Request};
use super::node::{self, Language, NodePlan};
use super::plan::{BuildPlan, FileTree, plan};
use super::source::{SourceTree, UploadSource};
use crate::agent::Agent;
use crate::diagnose;
use crate::logs::LogWriter;
use crate::protocol::{self, DeploymentSpec, Diagnosis, LogStream, Phase, Source};
use crate::record::Built;
use crate::runtime::{Image, Owner, Runtime};
use crate::store;
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
    let log = agent.log(deployment, LogStream::Build);
    agent.update(deployment, |record| {
        record.report.phase = Phase::Building;
        record.report.upstream = None;
        record.report.timings.clear();
    });
    let deadline = Instant::now() + Duration::from_secs(spec.limits.build_seconds);
    match steps(agent, spec, uploads, canceled, &log, deadline).await {
        Ok((built, timings)) => {
            agent.update(deployment, |record| {
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

async fn steps<R: Runtime>(
    agent: &Agent<R>,
    spec: &DeploymentSpec,
    uploads: &dyn UploadSource,
    canceled: &CancellationToken,
    log: &LogWriter,
    deadline: Instant,
) -> Result<(Built, Vec<(String, u64)>), Stop> {
    if let Source::Package(package) = &spec.source {
        return catalogue::build(agent, spec, package, canceled, log, deadline).await;
    }
    let installation = agent.installation().map_err(|error| platform(&error))?;
    // Making a network takes a fifth of a second: it is made while the source is fetched.
    let (source, network) = tokio::join!(
        fetch(agent, spec, uploads, canceled, log, deadline),
        agent.runtime.ensure_network(installation, spec.project),
    );
    let source = source?;
    let network = network.map_err(|error| platform(&error.into()))?;
    let owner = Owner {
        installation,
        project: spec.project,
        deployment: spec.deployment,
    };
    let planned = make_plan(agent, spec, &source.path, log).await?;
    let image = image(agent, planned.runtime()).await?;
    let plan = match planned {
        Planned::Python(plan) => plan,
        Planned::Node(plan) => {
            let work = node::steps::Work {
                agent,
                owner,
                image: &image,
                network: &network,
                log,
                deadline,
                canceled,
                seconds: spec.limits.build_seconds,
            };
            return node::steps::build(&work, &source.path, plan).await;
        }
    };
    let request = Request {
        owner,
        image: &image,
        program: "environment.py",
        layout: Layout::Beside,
        version: &plan.python,
        declared: plan.dependencies.to_json(),
        inputs: plan.dependencies.inputs(),
        source: &source.path,
        network: &network,
        programs: &agent.programs,
    };
    let obtained = obtain(agent, &request, log, deadline, canceled)
        .await
        .map_err(|failure| {
            let dependencies = Some(plan.plan.dependencies.clone());
            let said = |account| verdict::environment_said(account, dependencies);
            failed(failure, spec.limits.build_seconds, said)
        })?;
    let built = Built {
        source: source.path,
        environment: obtained.path,
        image: image.name.clone(),
        variables: plan.environment,
        entrypoint: plan.entrypoint,
        start: None,
    };
    Ok((built, obtained.timings))
}

/// A plan of either language.
enum Planned {
    Python(BuildPlan),
    Node(NodePlan),
}

impl Planned {
    fn plan(&self) -> &protocol::Plan {
        match self {
            Self::Python(plan) => &plan.plan,
            Self::Node(plan) => &plan.plan,
        }
    }

    fn runtime(&self) -> &str {
        &self.plan().runtime
    }
}

/// Plans a source in the language it is written in.
fn plan_source(
    tree: &FileTree,
    entrypoint: Option<&str>,
    images: &[String],
) -> Result<Planned, Diagnosis> {
    Ok(match node::language(tree, entrypoint)? {
        Language::Node(directory, why) => {
            Planned::Node(node::plan(tree, &directory, entrypoint, images, why)?)
        }
        Language::Python(why) => {
            let mut planned = plan(tree, entrypoint, images)?;
            planned.plan.reasons.extend(why);
            Planned::Python(planned)
        }
    })
}

/// The runtime image of that name, which was there when it was chosen.
pub async fn image<R: Runtime>(agent: &Agent<R>, name: &str) -> Result<Image, Stop> {
    let images = agent.images().await;
    images
        .into_iter()
        .find(|image| image.name == name)
        .with_context(|| format!("the runtime image {name} is gone"))
        .map_err(|error| platform(&error))
}

/// Obtains an environment, unless the runner ends meanwhile.
pub async fn obtain<R: Runtime>(
    agent: &Agent<R>,
    request: &Request<'_>,
    log: &LogWriter,
    deadline: Instant,
    canceled: &CancellationToken,
) -> Result<Obtained, Failure> {
    let both = canceled.child_token();
    let obtain = agent
        .environments
        .obtain(&agent.runtime, request, log, deadline, &both);
    unless_shutdown(agent, &both, obtain).await
}

/// Does something that `both` calls off, also when the runner ends.
pub async fn unless_shutdown<R: Runtime, T>(
    agent: &Agent<R>,
    both: &CancellationToken,
    work: impl Future<Output = T>,
) -> T {
    let called_off = async {
        agent.shutdown.cancelled().await;
        both.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        done = work => done,
        () = called_off => unreachable!("it never resolves"),
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

async fn make_plan<R: Runtime>(
    agent: &Agent<R>,
    spec: &DeploymentSpec,
    source: &Path,
    log: &LogWriter,
) -> Result<Planned, Stop> {
    let begun = Instant::now();
    let images = agent.image_names().await;
    let path = source.to_owned();
    let entrypoint = spec.entrypoint.clone();
    let planned = tokio::task::spawn_blocking(move || {
        let tree = FileTree::open(&path).map_err(|error| {
            diagnose::platform_failure(format!("The source cannot be read: {error}."))
        })?;
        plan_source(&tree, entrypoint.as_deref(), &images)
    })
    .await
    .map_err(|error| platform(&error.into()))??;
    for reason in &planned.plan().reasons {
        log.line(reason.clone());
    }
    agent.update(spec.deployment, |record| {
        record.report.plan = Some(planned.plan().clone());
        record.timing("plan", elapsed_ms(begun));
    });
    Ok(planned)
}

/// From a failed build to what is reported. `said` explains the build program's account.
pub fn failed(
    failure: Failure,
    seconds: u64,
    said: impl FnOnce(serde_json::Value) -> Diagnosis,
) -> Stop {
    Stop::Failed(match failure {
        Failure::Canceled => return Stop::Canceled,
        Failure::TimedOut => diagnose::build_timeout(seconds),
        Failure::Said(account) => said(account),
        Failure::Ended(exit, tail) => verdict::environment_ended(exit, &tail),
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
