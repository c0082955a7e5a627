//! Whether an instance that was started or found is healthy, and if not, why.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use crate::agent::Agent;
use crate::build::environment_reads::{MAX_VARIABLES, is_wanted};
use crate::build::pipeline::elapsed_ms;
use crate::build::tree::FileTree;
use crate::diagnose::{self, Evidence, Started};
use crate::follow::{Said, follow};
use crate::health::{self, Asked, Found, ProbeFailure};
use crate::liveness;
use crate::protocol::{DeploymentSpec, Diagnosis, EnvironmentRead, LogStream, Need, Phase, Plan};
use crate::runtime::{Exit, Runtime};
use crate::variables::PORT;
use crate::verdict;

/// How long the last output of an ended instance may take to arrive.
const DRAIN: Duration = Duration::from_secs(2);
/// Without a line, a server has said what it had to say of the last request.
const SILENCE: Duration = Duration::from_millis(500);
/// How long an engine may take to tell where a container's processes listen.
const LISTENING_TIMEOUT: Duration = Duration::from_secs(5);
/// Between attempts to take over an instance that was healthy and is slow to answer.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Between probes of a server whose port is open but whose connection broke.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// How an attempt to bring an instance up ended.
pub enum Outcome {
    /// It answers.
    Healthy(Box<Answer>),
    /// It does not, and this is why.
    Failed(Diagnosis),
    /// Nobody wants it any more.
    Canceled,
    /// The runner ends; what runs goes on.
    Shutdown,
}

/// What a healthy instance answered, where, and how long it took, milliseconds.
pub struct Answer {
    /// Where.
    pub address: SocketAddr,
    /// What it offers, and how it has to be asked.
    pub found: Found,
    /// From its start to its open port.
    pub import_ms: u64,
    /// The probe.
    pub check_ms: u64,
}

/// A running instance and what it says.
pub struct Running {
    id: String,
    said: watch::Receiver<Said>,
}

impl Running {
    /// Follows a container's output in a task of its own, to its end. `is_found` says that it may
    /// have been followed before this process began.
    pub fn follow<R: Runtime>(
        agent: &Arc<Agent<R>>,
        deployment: Uuid,
        id: String,
        is_found: bool,
    ) -> Self {
        let log = agent.log(deployment, LogStream::Instance);
        let position = if is_found {
            agent.positions.get(deployment)
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
}

/// Waits until the instance answers, ends, or its time is over.
pub async fn check<R: Runtime>(
    agent: &Arc<Agent<R>>,
    spec: &DeploymentSpec,
    mut running: Running,
    canceled: &CancellationToken,
) -> Outcome {
    let was_healthy = agent
        .record(spec.deployment)
        .is_some_and(|record| record.report.phase == Phase::Healthy);
    agent.update(spec.deployment, |record| {
        // One that is taken over stays what it was until it proves otherwise.
        if record.report.phase != Phase::Healthy {
            record.report.phase = Phase::Checking;
        }
    });
    let id = running.id.clone();
    let outcome = loop {
        let deadline = Instant::now() + Duration::from_secs(spec.limits.start_seconds);
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
        let attempt = {
            let up = answers(agent, spec, &running, &is_open);
            tokio::select! {
                up = up => up,
                exit = ended => Err(Unwell::Ended(exit)),
                () = sleep_until(deadline) => Err(if is_open.load(Ordering::Relaxed) {
                    Unwell::Probe(ProbeFailure::Timeout { method: String::new() })
                } else {
                    Unwell::Late
                }),
                () = canceled.cancelled() => return clean(agent, running, Outcome::Canceled),
                () = agent.shutdown.cancelled() => return Outcome::Shutdown,
            }
        };
        match attempt {
            Err(Unwell::Probe(_) | Unwell::Late | Unwell::NoAddress) if was_healthy => {
                // It served before this runner started and it still runs: a slow answer is no
                // reason to end it with the calls it is working on.
                tracing::warn!(deployment.id = %spec.deployment, "an instance that was healthy does not answer just now");
                tokio::select! {
                    () = sleep(ASK_AGAIN) => {}
                    () = canceled.cancelled() => return clean(agent, running, Outcome::Canceled),
                    () = agent.shutdown.cancelled() => return Outcome::Shutdown,
                }
            }
            attempt => break attempt,
        }
    };
    match outcome {
        Ok(mut answer) => {
            // What the launcher noticed stands in the plan beside what the probe did.
            let notice = running.said.borrow().notice.clone();
            answer.found.notices.splice(0..0, notice);
            let log = agent.log(spec.deployment, LogStream::Build);
            for notice in &answer.found.notices {
                log.line(notice.clone());
            }
            if let Some(surface) = &answer.found.surface {
                log.line(format!(
                    "The server answers MCP {} with {} tools, {} prompts and {} resources.",
                    surface.protocol_version,
                    surface.tools.len(),
                    surface.prompts.len(),
                    surface.resources.len() + surface.resource_templates.len(),
                ));
            }
            agent.keep_output(spec.deployment, &running.id, running.said.clone());
            liveness::watch(agent, spec.deployment, running.id, answer.address);
            Outcome::Healthy(Box::new(answer))
        }
        Err(unwell) => {
            let diagnosis = diagnose_start(agent, spec, &mut running, unwell).await;
            clean(agent, running, Outcome::Failed(diagnosis))
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
    let address = SocketAddr::new(address, port(agent, spec.deployment));
    let said = running.said.clone();
    tokio::select! {
        () = health::port_open(address) => {}
        unwell = launcher_says(said.clone()) => unwell?,
    }
    is_open.store(true, Ordering::Relaxed);
    let import_ms = import_ms(&said.borrow(), begun);
    let opened = Instant::now();
    let host = public_host(&spec.public_url);
    let asked = Asked {
        address,
        host: &host,
        own_sign_in: spec.own_sign_in,
    };
    let probe = async {
        loop {
            match agent.prober.probe(asked).await {
                Ok(found) => return Ok(found),
                // It may have closed its port again: it is then about to end, or to open it anew.
                Err(ProbeFailure::Connection { .. }) => sleep(PROBE_INTERVAL).await,
                Err(failure) => return Err(Unwell::Probe(failure)),
            }
        }
    };
    let found = tokio::select! {
        found = probe => found?,
        unwell = launcher_fails(said) => return Err(unwell),
    };
    Ok(Answer {
        address,
        found,
        import_ms,
        check_ms: elapsed_ms(opened),
    })
}

/// Where its server is to listen.
fn port<R: Runtime>(agent: &Agent<R>, deployment: Uuid) -> u16 {
    let record = agent.record(deployment);
    let built = record.and_then(|record| record.built);
    built.map_or(PORT, |built| built.port())
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
    // What it said last says most.
    match unwell {
        Unwell::Ended(_) => {
            let drained = running.said.wait_for(|said| said.ended);
            let _ = timeout(DRAIN, drained).await;
        }
        Unwell::Probe(_) => {
            let _ = timeout(DRAIN, falls_silent(&running.said)).await;
        }
        Unwell::Said | Unwell::Late | Unwell::NoAddress => {}
    }
    let said = running.said.borrow().clone();
    // Before it is cut to a sentence: half a secret is still a secret.
    let log = agent.log(spec.deployment, LogStream::Instance);
    let tail: Vec<String> = said.tail.iter().map(|line| log.mask(line)).collect();
    let record = agent.record(spec.deployment);
    let dependencies = record
        .as_ref()
        .and_then(|record| Some(record.report.plan.as_ref()?.dependencies.clone()));
    let source = match record.and_then(|record| record.built) {
        Some(built) => read_source(built.source).await,
        None => None,
    };
    let known = Evidence {
        source: source.as_ref(),
        dependencies: dependencies.as_deref(),
        ..Evidence::default()
    };
    let out_of_memory = match &unwell {
        Unwell::Ended(exit) => exit.out_of_memory,
        _ => false,
    };
    if let Some(mut failure) = said.failure
        && !out_of_memory
    {
        log.mask_all(&mut failure);
        agent.update(spec.deployment, |record| {
            if let Some(plan) = &mut record.report.plan {
                note_missing(plan, &failure);
            }
        });
        return verdict::launcher_said(failure, &known);
    }
    match unwell {
        Unwell::Ended(exit) => verdict::instance_ended(exit, &tail, &spec.limits, &known),
        Unwell::Probe(failure) => {
            let since = said.tail_serving.iter();
            let since: Vec<String> = since.map(|line| log.mask(line)).collect();
            verdict::probe_said(&failure, &public_host(&spec.public_url), &since, &known)
        }
        Unwell::Late => {
            let listening = listening(agent, &running.id).await;
            let imported = said.import_ms.is_some();
            let started = Started {
                port: port(agent, spec.deployment),
                seconds: spec.limits.start_seconds,
                imported,
                listening: &listening,
            };
            diagnose::not_listening(&started, &tail)
        }
        Unwell::Said | Unwell::NoAddress => {
            tracing::error!(deployment.id = %spec.deployment, container = %running.id, "an instance has no address");
            diagnose::platform_failure("The container engine gave the instance no address.")
        }
    }
}

/// Resolves when nothing was written for a while: what a server has to say of a request, like the
/// traceback of an error, it writes after it has answered.
async fn falls_silent(said: &watch::Receiver<Said>) {
    let lines = || said.borrow().lines;
    let mut before = lines();
    loop {
        sleep(SILENCE).await;
        let now = lines();
        if now == before {
            return;
        }
        before = now;
    }
}

/// Adds the variables that the launcher saw missing to those that the source seems to read.
fn note_missing(plan: &mut Plan, failure: &Value) {
    let missing = failure["missing_variables"]
        .as_array()
        .into_iter()
        .flatten();
    for name in missing
        .filter_map(Value::as_str)
        .filter(|name| is_wanted(name))
    {
        let is_full = plan.reads.len() >= MAX_VARIABLES;
        match plan.reads.iter_mut().find(|read| read.name == name) {
            Some(read) => read.need = Need::Required,
            None if is_full => {}
            None => {
                let place = failure["file"].as_str().zip(failure["line"].as_u64());
                plan.reads.push(EnvironmentRead {
                    name: name.to_owned(),
                    need: Need::Required,
                    places: place
                        .map(|(file, line)| format!("{}:{line}", file.escape_debug()))
                        .into_iter()
                        .collect(),
                });
            }
        }
    }
}

/// The project's files, which a fix may name lines of.
async fn read_source(path: PathBuf) -> Option<FileTree> {
    let opened = tokio::task::spawn_blocking(move || FileTree::open(&path)).await;
    opened.ok()?.ok()
}

/// Where the instance's processes listen; nothing where the engine does not tell.
async fn listening<R: Runtime>(agent: &Agent<R>, id: &str) -> Vec<SocketAddr> {
    match timeout(LISTENING_TIMEOUT, agent.runtime.listening(id)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::warn!(%error, "an instance's sockets could not be read");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

/// Removes an instance that will not do.
fn clean<R: Runtime>(agent: &Agent<R>, running: Running, outcome: Outcome) -> Outcome {
    agent.runtime.discard(running.id);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_missing_is_noted() {
        let mut plan = Plan {
            reads: vec![EnvironmentRead {
                name: "A".into(),
                need: Need::Optional,
                places: vec!["a.py:1".into()],
            }],
            ..Plan::default()
        };
        let failure = serde_json::json!({
            "missing_variables": ["A", "B"], "file": "main.py", "line": 7,
        });
        note_missing(&mut plan, &failure);
        let noted: Vec<(&str, Need, &str)> = plan
            .reads
            .iter()
            .map(|read| (read.name.as_str(), read.need, read.places[0].as_str()))
            .collect();
        assert_eq!(
            noted,
            [
                ("A", Need::Required, "a.py:1"),
                ("B", Need::Required, "main.py:7")
            ]
        );
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
