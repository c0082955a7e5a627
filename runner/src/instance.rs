//! Instances: started, checked, taken over, brought back, stopped.

use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use crate::agent::Agent;
use crate::build::pipeline::elapsed_ms;
use crate::diagnose;
use crate::follow::{Said, follow};
use crate::health::{self, ProbeFailure};
use crate::launcher;
use crate::limits::Bounds;
use crate::logs::LogWriter;
use crate::protocol::{DeploymentSpec, Diagnosis, LogStream, Phase, Surface};
use crate::record::Record;
use crate::runtime::docker::CONTAINER_USER;
use crate::runtime::{ContainerSpec, Exit, Mount, Owner, Role, Runtime, State};
use crate::variables::{self, PORT, VARIABLES_FILE};
use crate::verdict;

/// From SIGTERM to SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Waits before restarts: 1, 2, 4 … 60 seconds.
const LAST_RESTART_DELAY: Duration = Duration::from_mins(1);
/// After this long an instance counts as well again, and its next restart comes soon.
const SETTLED: Duration = Duration::from_mins(1);
/// How long the last output of an ended instance may take to arrive.
const DRAIN: Duration = Duration::from_secs(2);
/// Between probes of a server whose port is open but whose connection broke.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// How an attempt to bring an instance up ended.
enum Outcome {
    /// It answers.
    Healthy(Answer),
    /// It does not, and this is why.
    Failed(Diagnosis),
    /// Nobody wants it any more.
    Canceled,
    /// The runner ends; what runs goes on.
    Shutdown,
}

/// What a healthy instance answered, where, and how long it took, milliseconds.
struct Answer {
    address: SocketAddr,
    surface: Surface,
    import_ms: u64,
    check_ms: u64,
}

/// A running instance and what it says.
struct Running {
    id: String,
    said: watch::Receiver<Said>,
}

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
    let how = remove_remains(agent, spec).await;
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
    let running = begin_following(agent, spec.deployment, container, true);
    let outcome = check(agent, spec, running, canceled).await;
    conclude(agent, spec, outcome);
}

/// Stops an instance gracefully and removes it with all that belongs to it.
pub async fn stop<R: Runtime>(agent: &Arc<Agent<R>>, deployment: Uuid, container: &str) {
    let stopped = async {
        agent.runtime.stop(container, STOP_GRACE).await?;
        agent.runtime.remove(container).await
    };
    let stopped = tokio::select! {
        stopped = stopped => stopped,
        // The engine goes on with it; what is left is seen at the next start.
        () = agent.shutdown.cancelled() => return,
    };
    if let Err(error) = stopped {
        // Still there at the next look, and then tried again.
        tracing::warn!(deployment.id = %deployment, %error, "an instance could not be stopped");
        return;
    }
    if let Ok(installation) = agent.installation() {
        agent.memory.remove(installation, deployment);
    }
    agent.update(deployment, |record| {
        if record.report.phase != Phase::Failed {
            record.report.phase = Phase::Stopped;
        }
        record.report.upstream = None;
        record.was_live = false;
    });
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
    let id = match create(agent, spec).await {
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
    let running = begin_following(agent, spec.deployment, id, false);
    check(agent, spec, running, canceled).await
}

/// Creates and starts the container; returns the engine's name for it.
async fn create<R: Runtime>(agent: &Agent<R>, spec: &DeploymentSpec) -> anyhow::Result<String> {
    let record = agent
        .record(spec.deployment)
        .context("the deployment is not known any more")?;
    let installation = agent.installation()?;
    let opened = variables::open(&agent.keys, spec)?;
    agent.learn_secrets(spec.deployment, &opened.secrets);
    let file = agent
        .memory
        .write(installation, spec.deployment, &opened.all)?;
    let network = agent
        .runtime
        .ensure_network(installation, spec.project)
        .await?;
    let volume = volume(&agent.directory, spec.project)?;
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
    Ok(ContainerSpec {
        owner,
        role: Role::Instance,
        image: built.image.clone(),
        command: ["/env/bin/python", "/berth/serve.py"]
            .map(String::from)
            .to_vec(),
        environment,
        working_dir: "/app".to_owned(),
        mounts: vec![
            mount(&agent.programs, launcher::MOUNTED_AT, true),
            mount(&built.environment, "/env", true),
            mount(&built.source, "/app", true),
            mount(&variables_file, VARIABLES_FILE, true),
            mount(&volume, "/data", false),
        ],
        network,
        dns: agent.settings.dns.clone(),
        bounds: Bounds::instance(&spec.limits),
    })
}

/// The persistent directory of a project.
fn volume(directory: &Path, project: Uuid) -> anyhow::Result<PathBuf> {
    let path = directory.join("volumes").join(project.to_string());
    let home = path.join("fastmcp");
    for path in [&path, &home] {
        if !path.exists() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(path)?;
            chown(path, Some(CONTAINER_USER), Some(CONTAINER_USER))
                .context("giving /data to the instance's user (the runner must be root)")?;
        }
    }
    Ok(path)
}

/// Follows a container's output in a task of its own, to its end. `is_found` says that it may
/// have been followed before this process began.
fn begin_following<R: Runtime>(
    agent: &Arc<Agent<R>>,
    deployment: Uuid,
    id: String,
    is_found: bool,
) -> Running {
    let log = agent.log(deployment, LogStream::Instance);
    let position = if is_found {
        agent.position(deployment)
    } else {
        0
    };
    if position > 0 {
        agent.logs.resume(deployment, LogStream::Instance, position);
    }
    let since = time::OffsetDateTime::from_unix_timestamp(position / 1_000_000).ok();
    let output = agent.runtime.output(&id, since.filter(|_| position > 0));
    let (sender, said) = watch::channel(Said::default());
    let shutdown = agent.shutdown.clone();
    agent.tasks.spawn(async move {
        tokio::select! {
            () = follow(output, log, position, sender) => {}
            () = shutdown.cancelled() => {}
        }
    });
    Running { id, said }
}

/// Waits until the instance answers, ends, or its time is over.
async fn check<R: Runtime>(
    agent: &Arc<Agent<R>>,
    spec: &DeploymentSpec,
    mut running: Running,
    canceled: &CancellationToken,
) -> Outcome {
    agent.update(spec.deployment, |record| {
        // One that is taken over stays what it was until it proves otherwise.
        if record.report.phase != Phase::Healthy {
            record.report.phase = Phase::Checking;
        }
    });
    let deadline = Instant::now() + Duration::from_secs(spec.limits.start_seconds);
    let id = running.id.clone();
    let ended = async {
        match agent.runtime.wait(&id).await {
            Ok(exit) => exit,
            Err(error) => {
                // The engine is away. The deadline decides.
                tracing::warn!(%error, "an instance cannot be waited for");
                std::future::pending().await
            }
        }
    };
    let is_open = AtomicBool::new(false);
    let outcome = {
        let up = answers(agent, spec, &running, &is_open);
        tokio::select! {
            up = up => up,
            exit = ended => Err(Unwell::Ended(exit)),
            () = sleep_until(deadline) => Err(if is_open.load(Ordering::Relaxed) {
                Unwell::Probe(ProbeFailure::Timeout { method: String::new() })
            } else {
                Unwell::Late
            }),
            () = canceled.cancelled() => return clean(agent, &running, Outcome::Canceled).await,
            () = agent.shutdown.cancelled() => return Outcome::Shutdown,
        }
    };
    match outcome {
        Ok(answer) => {
            let said = running.said.borrow();
            let log = agent.log(spec.deployment, LogStream::Build);
            let surface = &answer.surface;
            if let Some(notice) = &said.notice {
                log.line(notice.clone());
            }
            log.line(format!(
                "The server answers MCP {} with {} tools, {} prompts and {} resources.",
                surface.protocol_version,
                surface.tools.len(),
                surface.prompts.len(),
                surface.resources.len() + surface.resource_templates.len(),
            ));
            Outcome::Healthy(answer)
        }
        Err(unwell) => {
            let diagnosis = diagnose_start(agent, spec, &mut running, unwell).await;
            clean(agent, &running, Outcome::Failed(diagnosis)).await
        }
    }
}

/// Why an instance is not healthy.
enum Unwell {
    /// The launcher said why.
    Said,
    /// It ended.
    Ended(Exit),
    /// It answers, but not as it should.
    Probe(ProbeFailure),
    /// It took too long.
    Late,
    /// The engine did not tell its address.
    NoAddress,
}

/// Resolves when the instance has answered the probe, or cannot any more.
async fn answers<R: Runtime>(
    agent: &Agent<R>,
    spec: &DeploymentSpec,
    running: &Running,
    is_open: &AtomicBool,
) -> Result<Answer, Unwell> {
    let begun = Instant::now();
    let address = match agent.runtime.inspect(&running.id).await {
        Ok(Some(detail)) => detail.address,
        _ => None,
    };
    let Some(address) = address else {
        // It may have ended already: then its end says more.
        sleep(DRAIN).await;
        return Err(Unwell::NoAddress);
    };
    let address = SocketAddr::new(address, PORT);
    let said = running.said.clone();
    tokio::select! {
        () = health::port_open(address) => {}
        unwell = launcher_says(said.clone()) => unwell?,
    }
    is_open.store(true, Ordering::Relaxed);
    let import_ms = import_ms(&said.borrow(), begun);
    let opened = Instant::now();
    let host = public_host(&spec.public_url);
    let probe = async {
        loop {
            match agent.prober.probe(address, &host).await {
                Ok(surface) => return Ok(surface),
                // It may have closed its port again: it is then about to end, or to open it anew.
                Err(ProbeFailure::Connection { .. }) => sleep(PROBE_INTERVAL).await,
                Err(failure) => return Err(Unwell::Probe(failure)),
            }
        }
    };
    let surface = tokio::select! {
        surface = probe => surface?,
        unwell = launcher_fails(said) => return Err(unwell),
    };
    Ok(Answer {
        address,
        surface,
        import_ms,
        check_ms: elapsed_ms(opened),
    })
}

/// What the launcher told; a server that tells nothing is timed from outside.
fn import_ms(said: &Said, begun: Instant) -> u64 {
    let told = said.prepare_ms.zip(said.import_ms);
    told.map_or_else(|| elapsed_ms(begun), |(prepare, import)| prepare + import)
}

/// Resolves when the launcher has said that it serves, or why it cannot.
async fn launcher_says(mut said: watch::Receiver<Said>) -> Result<(), Unwell> {
    let spoke = said
        .wait_for(|said| said.serving || said.failure.is_some())
        .await
        .map(|said| said.failure.is_some());
    match spoke {
        Ok(true) => Err(Unwell::Said),
        Ok(false) => Ok(()),
        // Its output ended: its end is about to be noticed.
        Err(_) => std::future::pending().await,
    }
}

/// Resolves when the launcher has said why it cannot serve.
async fn launcher_fails(mut said: watch::Receiver<Said>) -> Unwell {
    let has_failed = said.wait_for(|said| said.failure.is_some()).await.is_ok();
    if has_failed {
        Unwell::Said
    } else {
        std::future::pending().await
    }
}

/// `host[:port]` of the public URL, as clients send it.
fn public_host(public_url: &str) -> String {
    Url::parse(public_url)
        .ok()
        .and_then(|url| {
            let host = url.host_str()?;
            Some(match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            })
        })
        .unwrap_or_else(|| "localhost".to_owned())
}

async fn diagnose_start<R: Runtime>(
    agent: &Agent<R>,
    spec: &DeploymentSpec,
    running: &mut Running,
    unwell: Unwell,
) -> Diagnosis {
    if matches!(unwell, Unwell::Ended(_)) {
        // What it said last says most.
        let drained = running.said.wait_for(|said| said.ended);
        let _ = timeout(DRAIN, drained).await;
    }
    let said = running.said.borrow().clone();
    // Before it is cut to a sentence: half a secret is still a secret.
    let log = agent.log(spec.deployment, LogStream::Instance);
    let tail: Vec<String> = said.tail.iter().map(|line| log.mask(line)).collect();
    let record = agent.record(spec.deployment);
    let dependencies = record.and_then(|record| Some(record.report.plan?.dependencies));
    let out_of_memory = match &unwell {
        Unwell::Ended(exit) => exit.out_of_memory,
        _ => false,
    };
    if let Some(mut failure) = said.failure
        && !out_of_memory
    {
        mask_all(&log, &mut failure);
        return verdict::launcher_said(failure, dependencies);
    }
    match unwell {
        Unwell::Ended(exit) => verdict::instance_ended(exit, &tail, &spec.limits),
        Unwell::Probe(failure) => {
            verdict::probe_said(&failure, &public_host(&spec.public_url), &tail)
        }
        Unwell::Late => {
            verdict::too_late(spec.limits.start_seconds, said.import_ms.is_some(), &tail)
        }
        Unwell::Said | Unwell::NoAddress => {
            tracing::error!(deployment.id = %spec.deployment, container = %running.id, "an instance has no address");
            diagnose::platform_failure("The container engine gave the instance no address.")
        }
    }
}

/// Hides secrets in every text of a JSON document.
fn mask_all(log: &LogWriter, value: &mut Value) {
    match value {
        Value::String(text) => *text = log.mask(text),
        Value::Array(items) => items.iter_mut().for_each(|item| mask_all(log, item)),
        Value::Object(fields) => fields.values_mut().for_each(|field| mask_all(log, field)),
        _ => {}
    }
}

/// Removes an instance that will not do.
async fn clean<R: Runtime>(agent: &Agent<R>, running: &Running, outcome: Outcome) -> Outcome {
    if let Err(error) = agent.runtime.remove(&running.id).await {
        tracing::warn!(%error, "an instance could not be removed");
    }
    outcome
}

/// Removes what is left of an ended instance; says how it ended, for people.
async fn remove_remains<R: Runtime>(agent: &Agent<R>, spec: &DeploymentSpec) -> String {
    let Ok(installation) = agent.installation() else {
        return String::new();
    };
    let containers = agent.runtime.list(installation).await.unwrap_or_default();
    let found = containers
        .into_iter()
        .find(|c| c.role == Role::Instance && c.deployment == spec.deployment);
    let Some(container) = found else {
        return String::new();
    };
    let exit = match agent.runtime.inspect(&container.id).await {
        Ok(Some(detail)) => detail.exit,
        _ => None,
    };
    if let Err(error) = agent.runtime.remove(&container.id).await {
        tracing::warn!(%error, "an ended instance could not be removed");
    }
    match exit {
        Some(exit) if exit.out_of_memory => " because it used more memory than it has".to_owned(),
        Some(exit) if exit.code == 137 => {
            " because it was killed (137), usually for using too much memory".to_owned()
        }
        Some(exit) => format!(" with status {}", exit.code),
        None => String::new(),
    }
}

fn conclude<R: Runtime>(agent: &Agent<R>, spec: &DeploymentSpec, outcome: Outcome) {
    let deployment = spec.deployment;
    match outcome {
        Outcome::Healthy(answer) => {
            agent.mark_healthy(deployment);
            agent.update(deployment, |record| {
                record.was_live = true;
                record.report.phase = Phase::Healthy;
                record.report.upstream = Some(answer.address.to_string());
                record.report.surface = Some(answer.surface);
                record.report.diagnosis = None;
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
                let log: LogWriter = agent.log(deployment, LogStream::Instance);
                log.line(format!("The instance did not come up: {}", diagnosis.cause));
                agent.update(deployment, |record| record.report.upstream = None);
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

    #[test]
    fn the_host_is_what_a_client_would_send() {
        assert_eq!(
            public_host("http://p.localhost:8080/mcp"),
            "p.localhost:8080"
        );
        assert_eq!(public_host("https://p.example.com/mcp"), "p.example.com");
    }
}
