//! A project's own Redis: one small instance beside its servers, on the project's network, for
//! background tasks and stores that outlive a deployment.
//!
//! It is confined as an instance is, and keeps its data on a volume of its own. Its password is
//! derived from the runner's key, so that nothing has to keep it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::agent::Agent;
use crate::hash::sha256;
use crate::keys::Keys;
use crate::limits::{Bounds, REDIS_DATA_BYTES, REDIS_VALUES_BYTES};
use crate::protocol::{REDIS_VARIABLES, VolumeKind};
use crate::runtime::{Container, ContainerSpec, Mount, Owner, Role, Runtime, State};

/// The runtime image.
pub const IMAGE: &str = "redis:7";
/// How it is called on the project's network.
pub const HOST: &str = "redis";

const PORT: u16 = 6379;
/// Where it finds its configuration: in memory, because whoever reads it learns of the password.
const CONFIGURATION: &str = "/run/berth/redis.conf";
/// What the file is called in the runner's memory.
const FILE: &str = "redis.conf";
/// From SIGTERM to SIGKILL: it writes out what it has not yet.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// The longest that it may take to read its data again.
const START: Duration = Duration::from_mins(1);
/// Between questions whether it is there.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// The longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Before one that did not start is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Lines of its output that explain why it ended.
const SAID_LINES: usize = 5;

/// The password of a project's Redis.
pub fn password(keys: &Keys, project: Uuid) -> String {
    keys.derive("redis", project)
}

/// What a server finds in its environment, unless it was set to something else: tasks have a
/// database of their own, so that clearing a cache loses none.
pub fn variables(password: &str) -> [(&'static str, String); 2] {
    let url = |database| format!("redis://:{password}@{HOST}:{PORT}/{database}");
    let [values, tasks] = REDIS_VARIABLES;
    [(values, url(0)), (tasks, url(1))]
}

/// Everything that can be written is kept, and when memory is full, writing fails: a queue that
/// forgets is worse than one that says no. The password stands here as its hash. Commands that
/// change or spy on the server itself are the platform's.
fn configuration(password: &str) -> String {
    format!(
        "port {PORT}\n\
         dir /data\n\
         appendonly yes\n\
         appendfsync everysec\n\
         save \"\"\n\
         maxmemory {REDIS_VALUES_BYTES}\n\
         maxmemory-policy noeviction\n\
         user default on #{} ~* &* +@all -@admin\n",
        sha256(password.as_bytes())
    )
}

/// Sees that a project's Redis runs and answers. It is started if it is not there.
pub async fn ensure<R: Runtime>(agent: &Agent<R>, project: Uuid) -> anyhow::Result<()> {
    let _one_at_a_time = agent.redis_starts.lock().await;
    let installation = agent.installation()?;
    let containers = agent.runtime.list(installation).await?;
    let running = containers.into_iter().find(|container| {
        container.role == Role::Redis
            && container.project == project
            && container.state == State::Running
    });
    let id = match running {
        Some(container) => container.id,
        None => start(agent, installation, project).await?,
    };
    let answered = answers(agent, &id, &password(&agent.keys, project)).await;
    if answered.is_err() {
        agent.runtime.remove(&id).await?;
    }
    answered
}

async fn start<R: Runtime>(
    agent: &Agent<R>,
    installation: Uuid,
    project: Uuid,
) -> anyhow::Result<String> {
    if !agent.image_names().await.iter().any(|name| name == IMAGE) {
        bail!(
            "the runtime image berth/{IMAGE} is not there: run `deploy/images/build {IMAGE}` on \
             the runner's machine"
        );
    }
    let text = configuration(&password(&agent.keys, project));
    let file = agent
        .memory
        .write_bytes(installation, project, FILE, text.as_bytes())?;
    let volume = agent
        .volume(project, VolumeKind::Redis, REDIS_DATA_BYTES)
        .await?;
    let network = agent.runtime.ensure_network(installation, project).await?;
    let mount = |source, target: &str, read_only| Mount {
        source,
        target: target.to_owned(),
        read_only,
    };
    let spec = ContainerSpec {
        // There is one for all deployments, so the project stands for them.
        owner: Owner {
            installation,
            project,
            deployment: project,
        },
        role: Role::Redis,
        home: crate::runtime::HOME,
        image: IMAGE.to_owned(),
        command: ["/usr/bin/redis-server", CONFIGURATION]
            .map(String::from)
            .to_vec(),
        environment: [("HOME".to_owned(), "/home/app".to_owned())].into(),
        working_dir: "/data".to_owned(),
        mounts: vec![
            mount(file, CONFIGURATION, true),
            mount(volume, "/data", false),
        ],
        network,
        dns: Vec::new(),
        bounds: Bounds::redis(),
    };
    Ok(agent.runtime.start(&spec).await?)
}

/// Waits until it answers; the error says what it wrote last.
async fn answers<R: Runtime>(agent: &Agent<R>, id: &str, password: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + START;
    let mut refusal = "it does not answer".to_owned();
    while Instant::now() < deadline {
        let detail = agent.runtime.inspect(id).await?;
        let Some(detail) = detail.filter(|detail| detail.state == State::Running) else {
            bail!("it ended: {}", last_words(agent, id).await);
        };
        if let Some(address) = detail.address {
            match timeout(ANSWER, ping(address, password)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => refusal = format!("{error:#}"),
                Err(_) => {}
            }
        }
        sleep(ASK_INTERVAL).await;
    }
    bail!("{refusal}")
}

/// Signs in and asks whether it is there.
async fn ping(address: IpAddr, password: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(SocketAddr::new(address, PORT)).await?;
    let question = format!("AUTH {password}\r\nPING\r\n");
    stream.write_all(question.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut buffer = [0; 512];
    // One line for each question; while it reads its data, the second is an error.
    while answer.split(|byte| *byte == b'\n').count() <= 2 {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            bail!("it hung up");
        }
        answer.extend_from_slice(&buffer[..read]);
    }
    let answer = String::from_utf8_lossy(&answer);
    if answer.starts_with("+OK\r\n+PONG\r\n") {
        return Ok(());
    }
    bail!("it says {}", answer.trim().replace("\r\n", ", "))
}

async fn last_words<R: Runtime>(agent: &Agent<R>, id: &str) -> String {
    let mut output = agent.runtime.output(id, None);
    let mut lines = Vec::new();
    let read = async {
        while let Some(Ok(line)) = output.next().await {
            lines.push(String::from_utf8_lossy(&line.bytes).into_owned());
        }
    };
    let _ = timeout(ANSWER, read).await;
    lines
        .split_off(lines.len().saturating_sub(SAID_LINES))
        .join("; ")
}

/// Brings one up that is wanted and does not run. After a failure, nothing is tried for a while.
pub async fn bring_up<R: Runtime>(agent: &Arc<Agent<R>>, project: Uuid) {
    let started = ensure(agent, project)
        .await
        .context("starting a project's Redis");
    if let Err(error) = started {
        tracing::error!(project.id = %project, error = format!("{error:#}"), "a Redis is not there");
        agent.shutdown.run_until_cancelled(sleep(RETRY)).await;
    }
}

/// Stops one that nobody wants any more. Its data stays.
pub async fn stop<R: Runtime>(agent: &Arc<Agent<R>>, container: &Container) {
    let stopped = async {
        agent.runtime.stop(&container.id, STOP_GRACE).await?;
        agent.runtime.remove(&container.id).await
    };
    match agent.shutdown.run_until_cancelled(stopped).await {
        Some(Ok(())) => {
            if let Ok(installation) = agent.installation() {
                agent.memory.remove(installation, container.project);
            }
        }
        Some(Err(error)) => {
            tracing::warn!(project.id = %container.project, %error, "a Redis could not be stopped");
            agent.shutdown.run_until_cancelled(sleep(RETRY)).await;
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_stands_in_no_file() {
        let text = configuration("hunter2");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("maxmemory-policy noeviction\n"), "{text}");
        assert!(text.contains("appendonly yes\n"), "{text}");
        assert!(text.ends_with(" ~* &* +@all -@admin\n"), "{text}");
    }

    #[test]
    fn tasks_and_values_lie_apart() {
        let [values, tasks] = variables("p");
        assert_eq!(values.1, "redis://:p@redis:6379/0");
        assert_eq!(
            tasks,
            ("FASTMCP_DOCKET_URL", "redis://:p@redis:6379/1".into())
        );
    }
}
