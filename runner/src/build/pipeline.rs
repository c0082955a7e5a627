//! One build: fetch, plan, environment. What it finds is reported as it goes.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::environment::{Failure, Request};
use super::plan::{BuildPlan, FileTree, plan};
use super::source::{SourceTree, UploadSource};
use crate::agent::Agent;
use crate::diagnose::{self, Code, Evidence};
use crate::logs::LogWriter;
use crate::protocol::{DeploymentSpec, Diagnosis, LogStream, Phase};
use crate::record::Built;
use crate::runtime::{Owner, Runtime};
use crate::store;
use crate::verdict;

/// Why a build has no result.
enum Stop {
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
    let installation = agent.installation().map_err(|error| platform(&error))?;
    // Making a network takes a fifth of a second: it is made while the source is fetched.
    let (source, network) = tokio::join!(
        fetch(agent, spec, uploads, canceled, log, deadline),
        agent.runtime.ensure_network(installation, spec.project),
    );
    let source = source?;
    let network = network.map_err(|error| platform(&error.into()))?;
    let plan = make_plan(agent, spec, &source.path, log).await?;
    let image = agent
        .images()
        .await
        .into_iter()
        .find(|image| image.name == plan.plan.runtime)
        .with_context(|| format!("the runtime image {} is gone", plan.plan.runtime))
        .map_err(|error| platform(&error))?;
    let request = Request {
        owner: Owner {
            installation,
            project: spec.project,
            deployment: spec.deployment,
        },
        image: &image,
        python: &plan.python,
        declared: plan.dependencies.to_json(),
        inputs: plan.dependencies.inputs(),
        source: &source.path,
        network: &network,
        programs: &agent.programs,
    };
    let both = canceled.child_token();
    let called_off = async {
        agent.shutdown.cancelled().await;
        both.cancel();
        std::future::pending::<()>().await;
    };
    let obtained = tokio::select! {
        obtained = agent.environments.obtain(&agent.runtime, &request, log, deadline, &both) => obtained,
        () = called_off => unreachable!("it never resolves"),
    };
    let obtained = obtained.map_err(|failure| {
        environment_failed(failure, spec, &plan.plan.dependencies, &source.path)
    })?;
    let built = Built {
        source: source.path,
        environment: obtained.path,
        image: image.name.clone(),
        variables: plan.environment,
        entrypoint: plan.entrypoint,
    };
    Ok((built, obtained.timings))
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
) -> Result<BuildPlan, Stop> {
    let begun = Instant::now();
    let images = agent.image_names().await;
    let path = source.to_owned();
    let entrypoint = spec.entrypoint.clone();
    let planned = tokio::task::spawn_blocking(move || {
        let tree = FileTree::open(&path).map_err(|error| {
            diagnose::platform_failure(format!("The source cannot be read: {error}."))
        })?;
        plan(&tree, entrypoint.as_deref(), &images).map_err(|found| {
            let is_missing = [Code::EntrypointNotFound, Code::NoEntrypoint]
                .iter()
                .any(|code| found.code == code.as_str());
            let left_out = diagnose::excluded(&tree, entrypoint.as_deref());
            left_out.filter(|_| is_missing).unwrap_or(found)
        })
    })
    .await
    .map_err(|error| platform(&error.into()))??;
    for reason in &planned.plan.reasons {
        log.line(reason.clone());
    }
    agent.update(spec.deployment, |record| {
        record.report.plan = Some(planned.plan.clone());
        record.timing("plan", elapsed_ms(begun));
    });
    Ok(planned)
}

fn environment_failed(
    failure: Failure,
    spec: &DeploymentSpec,
    dependencies: &str,
    source: &Path,
) -> Stop {
    Stop::Failed(match failure {
        Failure::Canceled => return Stop::Canceled,
        Failure::TimedOut => diagnose::build_timeout(spec.limits.build_seconds),
        Failure::Said(account) => {
            let source = FileTree::open(source).ok();
            verdict::environment_said(
                account,
                &Evidence {
                    source: source.as_ref(),
                    dependencies: Some(dependencies),
                    ..Evidence::default()
                },
            )
        }
        Failure::Ended(exit, tail) => verdict::environment_ended(exit, &tail),
        Failure::Platform(error) => return platform(&error),
    })
}

/// The details are for the runner's log; the user can do nothing with them.
fn platform(error: &anyhow::Error) -> Stop {
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
