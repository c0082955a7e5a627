//! Instances: started, checked, taken over, brought back, stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::build::pipeline::elapsed_ms;
use crate::check::{Outcome, Running, check};
use crate::diagnose::{self, Code};
use crate::launcher::{self, bridge, bridge::Bridge};
use crate::limits::Bounds;
use crate::protocol::{DeploymentSpec, Diagnosis, LogStream, Phase, VolumeKind};
use crate::record::Record;
use crate::redis;
use crate::runtime::{
    Container, ContainerSpec, Exit, HOME, Mount, OWN_IMAGE_HOME, Owner, Role, Runtime, State,
};
use crate::variables::{self, OF_INSTANCE, Opened, VARIABLES_FILE};
use crate::verdict;

/// From SIGTERM to SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Waits before restarts: 1, 2, 4 … 60 seconds.
const LAST_RESTART_DELAY: Duration = Duration::from_mins(1);
/// After this long an instance counts as well again, and its next restart comes soon.
const SETTLED: Duration = Duration::from_mins(1);
/// Before an engine that refused to stop an instance is asked again.
const STOP_RETRY: Duration = Duration::from_secs(2);

/// Starts an instance of what was built and checks it.
pub async fn start<R: Runtime>(
    agent: &Arc<Agent<R>>,
    spec: &DeploymentSpec,
    canceled: &CancellationToken,
) {
    let outcome = bring_up(agent, spec, canceled).await;
    conclude(agent, spec, outcome);
}

/// Brings a live instance back that died: says so, waits a while, starts it again.
pub async fn restart<R: Runtime>(
    agent: &Arc<Agent<R>>,
    spec: &DeploymentSpec,
    canceled: &CancellationToken,
) {
    let restarts = agent.count_restart(spec.deployment, SETTLED);
    let delay = restart_delay(restarts);
    let log = agent.log(spec.deployment, LogStream::Instance);
    let ended = remove_remains(agent, spec).await;
    if let Some(exit) = ended {
        let tail = agent.last_output(spec.deployment);
        let found = verdict::live_ended(exit, &tail, &spec.limits, restarts + 1);
        agent.note(spec.deployment, found);
    }
    let how = ended.map_or_else(String::new, |exit| format!(" with status {}", exit.code));
    log.line(format!(
        "The instance ended{how}; it is started again in {} s.",
        delay.as_secs()
    ));
    agent.update(spec.deployment, |record| {
        record.report.phase = Phase::Starting;
        record.report.upstream = None;
    });
    let outcome = tokio::select! {
        () = sleep(delay) => bring_up(agent, spec, canceled).await,
        () = canceled.cancelled() => Outcome::Canceled,
        () = agent.shutdown.cancelled() => Outcome::Shutdown,
    };
    conclude(agent, spec, outcome);
}

/// Takes over an instance that is running: follows its log, and checks it as if it were new.
pub async fn adopt<R: Runtime>(
    agent: &Arc<Agent<R>>,
    spec: &DeploymentSpec,
    container: String,
    canceled: &CancellationToken,
) {
    let secrets = variables::open(&agent.keys, spec).map(|opened| opened.secrets);
    // Without its secrets its output cannot be masked: whatever cannot be opened is not running.
    agent.learn_secrets(spec.deployment, &secrets.unwrap_or_default());
    let detail = agent.runtime.inspect(&container).await;
    if let Ok(Some(detail)) = &detail
        && detail.state == State::Frozen
        && let Err(error) = agent.runtime.thaw(&container).await
    {
        tracing::warn!(%error, "a frozen instance could not be thawed");
    }
    let running = Running::follow(agent, spec.deployment, container, true);
    let outcome = check(agent, spec, running, canceled).await;
    conclude(agent, spec, outcome);
}

/// Stops an instance gracefully and removes it with all that belongs to it.
pub async fn stop<R: Runtime>(agent: &Arc<Agent<R>>, container: &Container) {
    let deployment = container.deployment;
    let stopped = async {
        agent.runtime.stop(&container.id, STOP_GRACE).await?;
        agent.runtime.remove(&container.id).await
    };
    let stopped = tokio::select! {
        stopped = stopped => stopped,
        // The engine goes on with it; what is left is seen at the next start.
        () = agent.shutdown.cancelled() => return,
    };
    if let Err(error) = stopped {
        // Still there at the next look, and then tried again.
        tracing::warn!(deployment.id = %deployment, %error, "an instance could not be stopped");
        agent.shutdown.run_until_cancelled(sleep(STOP_RETRY)).await;
        return;
    }
    if let Ok(installation) = agent.installation() {
        agent.memory.remove(installation, deployment);
    }
    agent.mark_stopped(deployment, container.project);
}

async fn bring_up<R: Runtime>(
    agent: &Arc<Agent<R>>,
    spec: &DeploymentSpec,
    canceled: &CancellationToken,
) -> Outcome {
    agent.update(spec.deployment, |record| {
        record.report.phase = Phase::Starting;
    });
    let turn = tokio::select! {
        turn = agent.starts.acquire() => turn.expect("the semaphore is never closed"),
        () = canceled.cancelled() => return Outcome::Canceled,
        () = agent.shutdown.cancelled() => return Outcome::Shutdown,
    };
    let begun = Instant::now();
    let opened = match variables::open(&agent.keys, spec) {
        Ok(opened) => opened,
        Err(name) => return Outcome::Failed(sealed_for_another(&name)),
    };
    let id = match create(agent, spec, &opened).await {
        Ok(id) => id,
        Err(error) => {
            tracing::error!(deployment.id = %spec.deployment, error = format!("{error:#}"), "an instance could not be started");
            return Outcome::Failed(diagnose::platform_failure(format!(
                "The instance could not be started: {error:#}."
            )));
        }
    };
    drop(turn);
    agent.update(spec.deployment, |record| {
        record.report.phase = Phase::Checking;
        record.timing("start", elapsed_ms(begun));
    });
    let running = Running::follow(agent, spec.deployment, id, false);
    check(agent, spec, running, canceled).await
}

/// A value that this runner cannot open: its key was lost with its data directory.
pub fn sealed_for_another(name: &str) -> Diagnosis {
    diagnose::diagnosis(
        Code::MissingVariable,
        format!(
            "The value of the variable {name} cannot be opened: it was sealed to another runner's key."
        ),
        format!("Set {name} again and deploy again."),
    )
}

/// Creates and starts the container; returns the engine's name for it.
async fn create<R: Runtime>(
    agent: &Agent<R>,
    spec: &DeploymentSpec,
    opened: &Opened,
) -> anyhow::Result<String> {
    let record = agent
        .record(spec.deployment)
        .context("the deployment is not known any more")?;
    let installation = agent.installation()?;
    agent.learn_secrets(spec.deployment, &opened.secrets);
    let mut variables = BTreeMap::new();
    if let Some(image) = record.built.as_ref().and_then(|b| b.own_image.as_ref()) {
        variables.extend(image.environment.clone());
    }
    variables.extend(opened.all.clone());
    let file = agent
        .memory
        .write(installation, spec.deployment, OF_INSTANCE, &variables)?;
    let network = agent
        .runtime
        .ensure_network(installation, spec.project)
        .await?;
    let volume = agent
        .volume(spec.project, VolumeKind::Data, spec.limits.data_bytes)
        .await?;
    if spec.redis {
        redis::ensure(agent, spec.project)
            .await
            .context("the project's Redis could not be started")?;
    }
    let owner = Owner {
        installation,
        project: spec.project,
        deployment: spec.deployment,
    };
    let container = container(agent, spec, &record, owner, network, [file, volume])?;
    Ok(agent.runtime.start(&container).await?)
}

fn container<R: Runtime>(
    agent: &Agent<R>,
    spec: &DeploymentSpec,
    record: &Record,
    owner: Owner,
    network: String,
    [variables_file, volume]: [PathBuf; 2],
) -> anyhow::Result<ContainerSpec> {
    let built = record.built.as_ref().context("nothing is built")?;
    let commit = record.report.commit.as_ref();
    let mut environment = variables::platform(spec, commit.map_or("", |commit| &commit.id), built);
    environment.insert("BERTH_VARIABLES_FILE".to_owned(), VARIABLES_FILE.to_owned());
    let mount = |source: &Path, target: &str, read_only| Mount {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only,
    };
    let mut mounts = vec![
        mount(&variables_file, VARIABLES_FILE, true),
        mount(&volume, "/data", false),
    ];
    // An image of the project's own has everything, wherever it likes.
    if built.own_image.is_none() {
        mounts.push(mount(&agent.programs, launcher::MOUNTED_AT, true));
        mounts.push(mount(&built.environment, "/env", true));
        mounts.push(mount(&built.source, "/app", true));
    }
    let (command, working_dir) = match &built.start {
        None => {
            let serve = ["/env/bin/python", "/berth/serve.py"].map(String::from);
            (guarded(&serve), "/app".to_owned())
        }
        Some(start) => {
            let bridge = Bridge::install(&agent.directory).context("preparing the bridge")?;
            mounts.push(mount(bridge.directory(), bridge::MOUNTED_AT, true));
            let serve = bridge.command(&start.command);
            let command = match built.own_image {
                // There may be no Python, or one of the project's making.
                Some(_) => bridge.guarded(&serve),
                None => guarded(&serve),
            };
            (command, start.working_dir.clone())
        }
    };
    Ok(ContainerSpec {
        owner,
        role: Role::Instance,
        image: built.image.clone(),
        command,
        environment,
        working_dir,
        home: match built.own_image {
            None => HOME,
            Some(_) => OWN_IMAGE_HOME,
        },
        mounts,
        network,
        dns: agent.settings.dns.clone(),
        bounds: Bounds::instance(&spec.limits),
    })
}

/// A command behind the guard of its output.
fn guarded(command: &[String]) -> Vec<String> {
    [&launcher::GUARDED.map(String::from)[..], command].concat()
}

/// Removes what is left of an ended instance; tells how it ended, where the engine knows.
async fn remove_remains<R: Runtime>(agent: &Agent<R>, spec: &DeploymentSpec) -> Option<Exit> {
    let installation = agent.installation().ok()?;
    let containers = agent.runtime.list(installation).await.unwrap_or_default();
    let found = containers
        .into_iter()
        .find(|c| c.role == Role::Instance && c.deployment == spec.deployment);
    let container = found?;
    let exit = match agent.runtime.inspect(&container.id).await {
        Ok(Some(detail)) => detail.exit,
        _ => None,
    };
    if let Err(error) = agent.runtime.remove(&container.id).await {
        tracing::warn!(%error, "an ended instance could not be removed");
    }
    exit
}

fn conclude<R: Runtime>(agent: &Agent<R>, spec: &DeploymentSpec, outcome: Outcome) {
    let deployment = spec.deployment;
    match outcome {
        Outcome::Healthy(answer) => {
            agent.mark_healthy(deployment, answer.address.ip());
            agent.update(deployment, |record| {
                record.was_live = true;
                record.report.phase = Phase::Healthy;
                record.report.upstream = Some(answer.address.to_string());
                record.report.host_header = answer.found.host_header;
                if answer.found.surface.is_some() {
                    record.report.surface = answer.found.surface;
                }
                if let Some(plan) = &mut record.report.plan {
                    for notice in answer.found.notices {
                        if !plan.reasons.contains(&notice) {
                            plan.reasons.push(notice);
                        }
                    }
                }
                record.timing("import", answer.import_ms);
                record.timing("check", answer.check_ms);
            });
        }
        Outcome::Failed(diagnosis) => {
            let was_live = agent
                .record(deployment)
                .is_some_and(|record| record.was_live);
            if was_live {
                // It worked before, so it is tried again: see `restart`.
                let log = agent.log(deployment, LogStream::Instance);
                log.line(format!("The instance did not come up: {}", diagnosis.cause));
                agent.update(deployment, |record| {
                    record.report.phase = Phase::Starting;
                    record.report.upstream = None;
                });
            } else {
                if let Ok(installation) = agent.installation() {
                    agent.memory.remove(installation, deployment);
                }
                agent.fail(deployment, diagnosis);
            }
        }
        Outcome::Canceled | Outcome::Shutdown => {}
    }
}

/// 1, 2, 4 … seconds.
fn restart_delay(restarts: u32) -> Duration {
    Duration::from_secs(1_u64 << restarts.min(10)).min(LAST_RESTART_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_come_ever_later_up_to_a_minute() {
        let delays: Vec<u64> = (0..8).map(|n| restart_delay(n).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(restart_delay(u32::MAX).as_secs(), 60);
    }
}
