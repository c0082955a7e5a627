//! The Docker API.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerStateStatusEnum, ContainerSummaryStateEnum, HealthConfig,
    HostConfig, HostConfigLogConfig, Ipam, IpamConfig, Mount as EngineMount, MountType,
    NetworkCreateRequest, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions,
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListNetworksOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, StatsOptionsBuilder,
    StopContainerOptionsBuilder, WaitContainerOptions,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{
    Container, ContainerSpec, Detail, Engine, Event, Exit, Image, LABEL_DEPLOYMENT,
    LABEL_INSTALLATION, LABEL_PROJECT, LABEL_ROLE, Network, OutputLine, Owner, Role, Runtime,
    RuntimeError, State, Stats,
};
use crate::limits;
use crate::network::{self, Subnet};

/// User and group of everything that runs in a container; the runtime images have it too.
pub const CONTAINER_USER: u32 = 10_001;

/// The repository of the runtime images.
const IMAGE_PREFIX: &str = "berth/";

/// The longest line kept of a container's output; the rest of it is dropped as it is read.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// How often a name in use is tried again; removing a container takes a fraction of a second.
const NAME_ATTEMPTS: u32 = 20;
/// How long to wait in between.
const NAME_INTERVAL: Duration = Duration::from_millis(100);

/// Subnets tried when the engine says that one overlaps; somebody else may create networks too.
const SUBNET_ATTEMPTS: usize = 16;

/// An engine that speaks Docker's API.
#[derive(Clone)]
pub struct DockerRuntime {
    docker: Docker,
    pool: Subnet,
    /// Two networks of one project, or two of one subnet, must not be made at once.
    creating_network: std::sync::Arc<Mutex<()>>,
}

impl DockerRuntime {
    /// Connects to `host` (`unix://…`, `tcp://…`) and agrees on an API version.
    pub async fn connect(host: &str, pool: Subnet) -> Result<Self, RuntimeError> {
        let docker = Docker::connect_with_host(host)
            .map_err(engine)?
            .negotiate_version()
            .await
            .map_err(engine)?;
        Ok(Self {
            docker,
            pool,
            creating_network: std::sync::Arc::default(),
        })
    }

    async fn taken_subnets(&self) -> Result<Vec<Subnet>, RuntimeError> {
        let networks = self
            .docker
            .list_networks(Some(ListNetworksOptionsBuilder::new().build()))
            .await
            .map_err(engine)?;
        let mut taken: Vec<Subnet> = networks
            .into_iter()
            .filter_map(|network| network.ipam?.config)
            .flatten()
            .filter_map(|config| config.subnet?.parse().ok())
            .collect();
        // Where there is no such file (another system, a remote engine) the engine's own check
        // for overlaps remains.
        if let Ok(text) = tokio::fs::read_to_string("/proc/net/route").await {
            taken.extend(network::routes(&text));
        }
        Ok(taken)
    }

    async fn create_network(
        &self,
        installation: Uuid,
        project: Uuid,
    ) -> Result<String, RuntimeError> {
        let taken = self.taken_subnets().await?;
        let free = network::free_subnets(self.pool, &taken, project);
        let mut last = RuntimeError::Engine(format!(
            "no subnet is free in {}: remove unused networks or set a larger pool",
            self.pool
        ));
        for subnet in free.into_iter().take(SUBNET_ATTEMPTS) {
            let request = network_body(installation, project, subnet);
            match self.docker.create_network(request).await {
                Ok(created) => return Ok(created.id),
                Err(error) => {
                    let text = error.to_string();
                    last = engine(error);
                    if !text.contains("overlap") {
                        break;
                    }
                }
            }
        }
        Err(last)
    }
}

fn engine(error: Error) -> RuntimeError {
    match error {
        Error::DockerResponseServerError {
            status_code: 404,
            message,
        } => RuntimeError::NotFound(message),
        other => RuntimeError::Engine(other.to_string()),
    }
}

/// Turns "already so" (304) and "gone" (404) into success.
fn settled(result: Result<(), Error>) -> Result<(), RuntimeError> {
    match result {
        Err(Error::DockerResponseServerError {
            status_code: 304 | 404,
            ..
        }) => Ok(()),
        other => other.map_err(engine),
    }
}

fn filter(key: &str, value: String) -> HashMap<String, Vec<String>> {
    HashMap::from([(key.to_owned(), vec![value])])
}

fn of_installation(installation: Uuid) -> HashMap<String, Vec<String>> {
    filter("label", format!("{LABEL_INSTALLATION}={installation}"))
}

fn label_uuid(labels: Option<&HashMap<String, String>>, name: &str) -> Option<Uuid> {
    labels?.get(name)?.parse().ok()
}

/// The container's name: a second attempt collides with what the first left, and replaces it.
fn container_name(owner: &Owner, role: Role) -> String {
    format!("berth-{}-{}", role.as_str(), owner.deployment.simple())
}

fn labels(owner: &Owner, role: Role) -> HashMap<String, String> {
    HashMap::from([
        (
            LABEL_INSTALLATION.to_owned(),
            owner.installation.to_string(),
        ),
        (LABEL_PROJECT.to_owned(), owner.project.to_string()),
        (LABEL_DEPLOYMENT.to_owned(), owner.deployment.to_string()),
        (LABEL_ROLE.to_owned(), role.as_str().to_owned()),
    ])
}

/// The whole create request of a container: every container of ours is confined here, and only
/// here. A test pins the result word for word.
fn create_body(spec: &ContainerSpec) -> ContainerCreateBody {
    let (program, arguments) = spec
        .command
        .split_first()
        .expect("a container spec names a program");
    ContainerCreateBody {
        image: Some(format!("{IMAGE_PREFIX}{}", spec.image)),
        // Both are set so that nothing the image declares is run.
        entrypoint: Some(vec![program.clone()]),
        cmd: Some(arguments.to_vec()),
        env: Some(
            spec.environment
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
        ),
        working_dir: Some(spec.working_dir.clone()),
        user: Some(format!("{CONTAINER_USER}:{CONTAINER_USER}")),
        hostname: Some(spec.role.as_str().to_owned()),
        labels: Some(labels(&spec.owner, spec.role)),
        stop_signal: Some("SIGTERM".to_owned()),
        // An image's health check would have the engine start a process every interval.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        host_config: Some(host_config(spec)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(spec: &ContainerSpec) -> HostConfig {
    let bounds = &spec.bounds;
    let ulimit = |name: &str, value: i64| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(value),
        hard: Some(value),
    };
    HostConfig {
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        readonly_rootfs: Some(true),
        privileged: Some(false),
        tmpfs: Some(HashMap::from([
            (
                "/tmp".to_owned(),
                format!(
                    "rw,{},nosuid,nodev,size={},mode=1777",
                    // Source distributions are built below it, some with programs of their own.
                    match spec.role {
                        Role::Build => "exec",
                        Role::Instance => "noexec",
                    },
                    bounds.tmp_bytes
                ),
            ),
            (
                "/home/app".to_owned(),
                format!(
                    "rw,noexec,nosuid,nodev,size={},mode=0700,uid={CONTAINER_USER},gid={CONTAINER_USER}",
                    limits::HOME_BYTES
                ),
            ),
        ])),
        shm_size: Some(limits::SHM_BYTES),
        memory: Some(bounds.memory_bytes),
        // The same figure as memory: no swap.
        memory_swap: Some(bounds.memory_bytes),
        nano_cpus: Some(bounds.cpu_millis * 1_000_000),
        pids_limit: Some(bounds.pids),
        ulimits: Some(vec![
            ulimit("nofile", limits::OPEN_FILES),
            ulimit("core", 0),
        ]),
        // When memory of the whole host ends, a tenant ends before the platform.
        oom_score_adj: Some(500),
        init: Some(true),
        ipc_mode: Some("private".to_owned()),
        log_config: Some(HostConfigLogConfig {
            typ: Some("local".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), "1m".to_owned()),
                ("max-file".to_owned(), "2".to_owned()),
            ])),
        }),
        network_mode: Some(spec.network.clone()),
        publish_all_ports: Some(false),
        dns: (!spec.dns.is_empty()).then(|| spec.dns.iter().map(IpAddr::to_string).collect()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(false),
        mounts: Some(
            spec.mounts
                .iter()
                .map(|mount| EngineMount {
                    target: Some(mount.target.clone()),
                    source: Some(mount.source.to_string_lossy().into_owned()),
                    typ: Some(MountType::BIND),
                    read_only: Some(mount.read_only),
                    ..EngineMount::default()
                })
                .collect(),
        ),
        ..HostConfig::default()
    }
}

fn network_body(installation: Uuid, project: Uuid, subnet: Subnet) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: network::network_name(project),
        driver: Some("bridge".to_owned()),
        enable_ipv6: Some(false),
        ipam: Some(Ipam {
            config: Some(vec![IpamConfig {
                subnet: Some(subnet.to_string()),
                ..IpamConfig::default()
            }]),
            ..Ipam::default()
        }),
        options: Some(HashMap::from([(
            "com.docker.network.bridge.name".to_owned(),
            network::bridge_name(project),
        )])),
        labels: Some(HashMap::from([
            (LABEL_INSTALLATION.to_owned(), installation.to_string()),
            (LABEL_PROJECT.to_owned(), project.to_string()),
        ])),
        ..NetworkCreateRequest::default()
    }
}

fn summary_state(state: Option<ContainerSummaryStateEnum>) -> State {
    match state {
        Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::RESTARTING) => {
            State::Running
        }
        Some(ContainerSummaryStateEnum::PAUSED) => State::Frozen,
        Some(ContainerSummaryStateEnum::CREATED) => State::Created,
        _ => State::Exited,
    }
}

impl Runtime for DockerRuntime {
    async fn list(&self, installation: Uuid) -> Result<Vec<Container>, RuntimeError> {
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&of_installation(installation))
            .build();
        let found = self
            .docker
            .list_containers(Some(options))
            .await
            .map_err(engine)?;
        Ok(found
            .into_iter()
            .filter_map(|container| {
                let labels = container.labels.as_ref();
                let role = match labels?.get(LABEL_ROLE)?.as_str() {
                    "instance" => Role::Instance,
                    "build" => Role::Build,
                    _ => return None,
                };
                Some(Container {
                    role,
                    project: label_uuid(labels, LABEL_PROJECT)?,
                    deployment: label_uuid(labels, LABEL_DEPLOYMENT)?,
                    state: summary_state(container.state),
                    id: container.id?,
                })
            })
            .collect())
    }

    async fn networks(&self, installation: Uuid) -> Result<Vec<Network>, RuntimeError> {
        let options = ListNetworksOptionsBuilder::new()
            .filters(&of_installation(installation))
            .build();
        let found = self
            .docker
            .list_networks(Some(options))
            .await
            .map_err(engine)?;
        Ok(found
            .into_iter()
            .filter_map(|network| {
                Some(Network {
                    project: label_uuid(network.labels.as_ref(), LABEL_PROJECT)?,
                    id: network.id?,
                })
            })
            .collect())
    }

    async fn ensure_network(
        &self,
        installation: Uuid,
        project: Uuid,
    ) -> Result<String, RuntimeError> {
        let _one_at_a_time = self.creating_network.lock().await;
        let there = self.networks(installation).await?;
        match there.into_iter().find(|network| network.project == project) {
            Some(network) => Ok(network.id),
            None => self.create_network(installation, project).await,
        }
    }

    async fn remove_network(&self, id: &str) -> Result<(), RuntimeError> {
        // Not while one is being looked up: it would be found and then be gone.
        let _one_at_a_time = self.creating_network.lock().await;
        settled(self.docker.remove_network(id).await)
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<String, RuntimeError> {
        let name = container_name(&spec.owner, spec.role);
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let create = || {
            self.docker
                .create_container(Some(options.clone()), create_body(spec))
        };
        let mut attempts = 0;
        let id = loop {
            match create().await {
                Err(Error::DockerResponseServerError {
                    status_code: 409, ..
                }) if attempts < NAME_ATTEMPTS => {
                    // Left by an earlier attempt, or still on its way out.
                    attempts += 1;
                    self.remove(&name).await?;
                    tokio::time::sleep(NAME_INTERVAL).await;
                }
                created => break created.map_err(engine)?.id,
            }
        };
        if let Err(error) = self
            .docker
            .start_container(&id, None::<StartContainerOptions>)
            .await
        {
            self.remove(&id).await?;
            return Err(engine(error));
        }
        Ok(id)
    }

    async fn inspect(&self, id: &str) -> Result<Option<Detail>, RuntimeError> {
        let found = match self
            .docker
            .inspect_container(id, None::<InspectContainerOptions>)
            .await
            .map_err(engine)
        {
            Err(RuntimeError::NotFound(_)) => return Ok(None),
            other => other?,
        };
        let status = found.state.unwrap_or_default();
        let state = match status.status {
            Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::RESTARTING) => {
                State::Running
            }
            Some(ContainerStateStatusEnum::PAUSED) => State::Frozen,
            Some(ContainerStateStatusEnum::CREATED) => State::Created,
            _ => State::Exited,
        };
        let address = found
            .network_settings
            .and_then(|settings| settings.networks)
            .into_iter()
            .flatten()
            .find_map(|(_, endpoint)| endpoint.ip_address?.parse::<Ipv4Addr>().ok())
            .map(IpAddr::V4);
        let exit = (state == State::Exited).then(|| Exit {
            code: status.exit_code.unwrap_or_default(),
            out_of_memory: status.oom_killed.unwrap_or_default(),
        });
        Ok(Some(Detail {
            state,
            address,
            exit,
        }))
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        settled(self.docker.stop_container(id, Some(options)).await)
    }

    async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        match self.docker.remove_container(id, Some(options)).await {
            // Somebody else (an earlier attempt) is removing it already.
            Err(Error::DockerResponseServerError {
                status_code: 409, ..
            }) => Ok(()),
            other => settled(other),
        }
    }

    async fn freeze(&self, id: &str) -> Result<(), RuntimeError> {
        self.docker.pause_container(id).await.map_err(engine)
    }

    async fn thaw(&self, id: &str) -> Result<(), RuntimeError> {
        self.docker.unpause_container(id).await.map_err(engine)
    }

    async fn wait(&self, id: &str) -> Result<Exit, RuntimeError> {
        let mut ends = self
            .docker
            .wait_container(id, None::<WaitContainerOptions>)
            .boxed();
        let code = match ends.next().await {
            Some(Ok(end)) => end.status_code,
            Some(Err(Error::DockerContainerWaitError { code, .. })) => code,
            Some(Err(error)) => return Err(engine(error)),
            None => return Err(RuntimeError::Engine("the wait was cut off".to_owned())),
        };
        // Whether memory was the reason stands only in the details.
        let out_of_memory = self
            .inspect(id)
            .await?
            .and_then(|detail| detail.exit)
            .is_some_and(|exit| exit.out_of_memory);
        Ok(Exit {
            code,
            out_of_memory,
        })
    }

    fn output(
        &self,
        id: &str,
        since: Option<OffsetDateTime>,
    ) -> BoxStream<'static, Result<OutputLine, RuntimeError>> {
        let since = since.map_or(0, |at| {
            i32::try_from(at.unix_timestamp()).unwrap_or(i32::MAX)
        });
        let options = LogsOptionsBuilder::new()
            .follow(true)
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .since(since)
            .build();
        let mut lines = Lines::default();
        self.docker
            .logs(id, Some(options))
            .filter_map(move |piece| {
                let line = match piece {
                    Ok(piece) => lines.add(&piece).map(Ok),
                    Err(error) => Some(Err(engine(error))),
                };
                std::future::ready(line)
            })
            .boxed()
    }

    fn events(&self, installation: Uuid) -> BoxStream<'static, Result<Event, RuntimeError>> {
        let mut filters = of_installation(installation);
        filters.extend(filter("type", "container".to_owned()));
        filters.insert(
            "event".to_owned(),
            ["start", "die", "destroy", "unpause", "pause"]
                .map(String::from)
                .to_vec(),
        );
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        self.docker
            .events(Some(options))
            .map(|event| event.map(|_| Event).map_err(engine))
            .boxed()
    }

    async fn stats(&self, id: &str) -> Result<Stats, RuntimeError> {
        let options = StatsOptionsBuilder::new()
            .stream(false)
            .one_shot(true)
            .build();
        let stats = self
            .docker
            .stats(id, Some(options))
            .boxed()
            .next()
            .await
            .ok_or_else(|| RuntimeError::NotFound(id.to_owned()))?
            .map_err(engine)?;
        let memory = stats.memory_stats.unwrap_or_default();
        // cgroup v1 says total_inactive_file, v2 inactive_file.
        let droppable = memory
            .stats
            .as_ref()
            .and_then(|detail| {
                detail
                    .get("total_inactive_file")
                    .or_else(|| detail.get("inactive_file"))
                    .copied()
            })
            .unwrap_or_default();
        Ok(Stats {
            memory_bytes: memory.usage.unwrap_or_default().saturating_sub(droppable),
            cpu_ns: stats
                .cpu_stats
                .and_then(|cpu| cpu.cpu_usage?.total_usage)
                .unwrap_or_default(),
            pids: stats
                .pids_stats
                .and_then(|pids| pids.current)
                .unwrap_or_default(),
        })
    }

    async fn images(&self) -> Result<Vec<Image>, RuntimeError> {
        let options = ListImagesOptionsBuilder::new()
            .filters(&filter("reference", format!("{IMAGE_PREFIX}*")))
            .build();
        let found = self
            .docker
            .list_images(Some(options))
            .await
            .map_err(engine)?;
        let mut images: Vec<Image> = found
            .into_iter()
            .flat_map(|image| {
                let id = image.id;
                image.repo_tags.into_iter().filter_map(move |tag| {
                    Some(Image {
                        name: tag.strip_prefix(IMAGE_PREFIX)?.to_owned(),
                        id: id.clone(),
                    })
                })
            })
            .collect();
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    async fn engine(&self) -> Result<Engine, RuntimeError> {
        let version = self.docker.version().await.map_err(engine)?;
        let info = self.docker.info().await.map_err(engine)?;
        let runc = version
            .components
            .into_iter()
            .flatten()
            .find(|component| component.name == "runc")
            .map(|component| component.version);
        Ok(Engine {
            version: version.version.unwrap_or_default(),
            api_version: version.api_version.unwrap_or_default(),
            runc,
            user_namespaces: info
                .security_options
                .into_iter()
                .flatten()
                .any(|option| option.contains("name=userns")),
        })
    }
}

/// Puts an engine's pieces of output together to lines. A long line comes in pieces of 16 KiB,
/// each with a time of its own, and only the last ends in a newline; the two streams interleave.
#[derive(Default)]
struct Lines {
    stdout: Option<OutputLine>,
    stderr: Option<OutputLine>,
}

impl Lines {
    fn add(&mut self, piece: &LogOutput) -> Option<OutputLine> {
        let unfinished = match piece {
            LogOutput::StdErr { .. } => &mut self.stderr,
            _ => &mut self.stdout,
        };
        let bytes = piece.as_ref();
        let space = bytes.iter().position(|byte| *byte == b' ')?;
        let at = std::str::from_utf8(&bytes[..space]).ok()?;
        let at = OffsetDateTime::parse(at, &Rfc3339).ok()?;
        let text = &bytes[space + 1..];
        let (text, ends) = match text.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let line = unfinished.get_or_insert_with(|| OutputLine {
            at,
            bytes: Vec::new(),
        });
        // One byte more than the cap, so that the reader sees that something is missing.
        let room = (MAX_LINE_BYTES + 1).saturating_sub(line.bytes.len());
        line.bytes.extend_from_slice(&text[..text.len().min(room)]);
        if ends { unfinished.take() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;
    use crate::limits::{Bounds, MIB};
    use crate::runtime::Mount;

    fn spec(role: Role) -> ContainerSpec {
        ContainerSpec {
            owner: Owner {
                installation: Uuid::from_u128(1),
                project: Uuid::from_u128(2),
                deployment: Uuid::from_u128(3),
            },
            role,
            image: "python:3.11".into(),
            command: vec!["/env/bin/python".into(), "/berth/serve.py".into()],
            environment: BTreeMap::from([("PORT".into(), "8080".into())]),
            working_dir: "/app".into(),
            mounts: vec![Mount {
                source: PathBuf::from("/data/x"),
                target: "/app".into(),
                read_only: true,
            }],
            network: "net".into(),
            dns: vec!["192.0.2.53".parse().unwrap()],
            bounds: Bounds {
                memory_bytes: 256 * MIB,
                cpu_millis: 500,
                pids: 128,
                tmp_bytes: 64 * MIB,
            },
        }
    }

    /// Every word of this is a promise: whoever changes it says why in the change.
    #[test]
    fn an_instance_is_confined_like_this() {
        let body = serde_json::to_value(create_body(&spec(Role::Instance))).unwrap();
        let expected = json!({
            "Image": "berth/python:3.11",
            "Entrypoint": ["/env/bin/python"],
            "Cmd": ["/berth/serve.py"],
            "Env": ["PORT=8080"],
            "WorkingDir": "/app",
            "User": "10001:10001",
            "Hostname": "instance",
            "Labels": {
                "berth.installation": "00000000-0000-0000-0000-000000000001",
                "berth.project": "00000000-0000-0000-0000-000000000002",
                "berth.deployment": "00000000-0000-0000-0000-000000000003",
                "berth.role": "instance",
            },
            "StopSignal": "SIGTERM",
            "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": {
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "ReadonlyRootfs": true,
                "Privileged": false,
                "Tmpfs": {
                    "/tmp": "rw,noexec,nosuid,nodev,size=67108864,mode=1777",
                    "/home/app":
                        "rw,noexec,nosuid,nodev,size=67108864,mode=0700,uid=10001,gid=10001",
                },
                "ShmSize": 16_777_216,
                "Memory": 268_435_456,
                "MemorySwap": 268_435_456,
                "NanoCpus": 500_000_000,
                "PidsLimit": 128,
                "Ulimits": [
                    {"Name": "nofile", "Soft": 4096, "Hard": 4096},
                    {"Name": "core", "Soft": 0, "Hard": 0},
                ],
                "OomScoreAdj": 500,
                "Init": true,
                "IpcMode": "private",
                "LogConfig": {"Type": "local", "Config": {"max-size": "1m", "max-file": "2"}},
                "NetworkMode": "net",
                "PublishAllPorts": false,
                "Dns": ["192.0.2.53"],
                "RestartPolicy": {"Name": "no"},
                "AutoRemove": false,
                "Mounts": [
                    {"Type": "bind", "Source": "/data/x", "Target": "/app", "ReadOnly": true},
                ],
            },
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn a_build_differs_only_in_that_it_may_run_what_it_unpacks() {
        let mut build = serde_json::to_value(create_body(&spec(Role::Build))).unwrap();
        let mut instance = serde_json::to_value(create_body(&spec(Role::Instance))).unwrap();
        assert_eq!(
            build["HostConfig"]["Tmpfs"]["/tmp"],
            "rw,exec,nosuid,nodev,size=67108864,mode=1777"
        );
        for body in [&mut build, &mut instance] {
            body["HostConfig"]["Tmpfs"]["/tmp"].take();
            body["Labels"]["berth.role"].take();
            body["Hostname"].take();
        }
        assert_eq!(build, instance);
    }

    #[test]
    fn a_network_is_a_bridge_of_its_own() {
        let body = network_body(
            Uuid::from_u128(1),
            Uuid::from_u128(2),
            "10.0.0.16/28".parse().unwrap(),
        );
        assert_eq!(
            serde_json::to_value(body).unwrap(),
            json!({
                "Name": "berth-000000000002",
                "Driver": "bridge",
                "EnableIPv6": false,
                "IPAM": {"Config": [{"Subnet": "10.0.0.16/28"}]},
                "Options": {"com.docker.network.bridge.name": "bth000000000002"},
                "Labels": {
                    "berth.installation": "00000000-0000-0000-0000-000000000001",
                    "berth.project": "00000000-0000-0000-0000-000000000002",
                },
            })
        );
    }

    fn out(text: &str) -> LogOutput {
        LogOutput::StdOut {
            message: text.to_owned().into(),
        }
    }

    #[test]
    fn pieces_become_lines() {
        let mut lines = Lines::default();
        let at = "2026-01-01T00:00:00.000001Z";
        let err = LogOutput::StdErr {
            message: format!("{at} other\n").into(),
        };
        assert_eq!(lines.add(&out(&format!("{at} one "))), None);
        assert_eq!(lines.add(&err).unwrap().bytes, b"other");
        let whole = lines.add(&out("2026-01-01T00:00:09Z line\n")).unwrap();
        assert_eq!(whole.bytes, b"one line");
        assert_eq!(whole.at.second(), 0, "the time of its beginning");
        assert_eq!(lines.add(&out(&format!("{at} \n"))).unwrap().bytes, b"");
        assert_eq!(lines.add(&out("nonsense")), None);
    }

    #[test]
    fn endless_lines_do_not_fill_memory() {
        let mut lines = Lines::default();
        let piece = format!("2026-01-01T00:00:00Z {}", "x".repeat(16_384));
        for _ in 0..100 {
            assert_eq!(lines.add(&out(&piece)), None);
        }
        let line = lines.add(&out("2026-01-01T00:00:00Z end\n")).unwrap();
        assert_eq!(line.bytes.len(), MAX_LINE_BYTES + 1);
    }
}
