//! The Docker API.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerStateStatusEnum, ContainerSummaryStateEnum, EndpointSettings,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions,
    InspectContainerOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
    ListNetworksOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions, StatsOptionsBuilder, StopContainerOptionsBuilder, WaitContainerOptions,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{
    Container, ContainerSpec, Detail, Engine, Event, Exit, Image, ImageConfig, LABEL_DEPLOYMENT,
    LABEL_INSTALLATION, LABEL_PROJECT, LABEL_ROLE, Network, OutputLine, Owner, Role, Runtime,
    RuntimeError, State, Stats,
};
use crate::network::{self, Subnet};

mod images;
mod lines;
mod sockets;
mod spec;

pub use spec::{CONTAINER_USER, WHEELS_USER};

use lines::Lines;
use spec::{IMAGE_PREFIX, container_name, create_body, network_body};

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
    creating_network: Arc<Mutex<()>>,
    /// Removals that nobody waits for.
    tasks: TaskTracker,
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
            creating_network: Arc::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Creates a container under its owner's name, replacing one of that name.
    async fn create(
        &self,
        owner: &Owner,
        role: Role,
        body: &ContainerCreateBody,
    ) -> Result<String, RuntimeError> {
        let mut name = container_name(owner, role);
        if role == Role::Step {
            // The one before may still be on its way out with all that it wrote.
            name = format!("{name}-{}", Uuid::new_v4().simple());
        }
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let mut attempts = 0;
        loop {
            let created = self
                .docker
                .create_container(Some(options.clone()), body.clone());
            match created.await {
                Err(Error::DockerResponseServerError {
                    status_code: 409, ..
                }) if attempts < NAME_ATTEMPTS => {
                    // Left by an earlier attempt, or still on its way out.
                    attempts += 1;
                    self.remove(&name).await?;
                    tokio::time::sleep(NAME_INTERVAL).await;
                }
                created => return Ok(created.map_err(engine)?.id),
            }
        }
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

    /// Resolves with the end of a container that ends from now on; `None` when the engine stops
    /// telling.
    async fn die_event(&self, id: &str) -> Option<Exit> {
        let mut filters = filter("container", id.to_owned());
        filters.insert(
            "event".to_owned(),
            ["oom", "die"].map(String::from).to_vec(),
        );
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let mut events = self.docker.events(Some(options)).boxed();
        let mut out_of_memory = false;
        while let Some(Ok(event)) = events.next().await {
            if event.action.as_deref() == Some("oom") {
                out_of_memory = true;
                continue;
            }
            let attributes = event.actor?.attributes?;
            let code = attributes.get("exitCode")?.parse().ok()?;
            return Some(Exit {
                code,
                out_of_memory,
            });
        }
        None
    }

    /// The engine's own answer to the question how a container ended.
    async fn wait_answer(&self, id: &str) -> Result<Exit, RuntimeError> {
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

/// The address on the only network a container is on; empty text while it does not run.
fn address(networks: Option<HashMap<String, EndpointSettings>>) -> Option<IpAddr> {
    let mut endpoints = networks.into_iter().flatten();
    endpoints.find_map(|(_, endpoint)| endpoint.ip_address?.parse().ok())
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
                    "step" => Role::Step,
                    "wheels" => Role::Wheels,
                    "redis" => Role::Redis,
                    _ => return None,
                };
                Some(Container {
                    role,
                    project: label_uuid(labels, LABEL_PROJECT)?,
                    deployment: label_uuid(labels, LABEL_DEPLOYMENT)?,
                    state: summary_state(container.state),
                    address: address(container.network_settings.and_then(|s| s.networks)),
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
        let id = self
            .create(&spec.owner, spec.role, &create_body(spec))
            .await?;
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
        let address = address(found.network_settings.and_then(|s| s.networks));
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

    fn discard(&self, id: String) {
        let runtime = self.clone();
        self.tasks.spawn(async move {
            if let Err(error) = runtime.remove(&id).await {
                // Found again at the next look.
                tracing::warn!(%error, "a container could not be removed");
            }
        });
    }

    async fn freeze(&self, id: &str) -> Result<(), RuntimeError> {
        self.docker.pause_container(id).await.map_err(engine)
    }

    async fn thaw(&self, id: &str) -> Result<(), RuntimeError> {
        self.docker.unpause_container(id).await.map_err(engine)
    }

    async fn wait(&self, id: &str) -> Result<Exit, RuntimeError> {
        // The engine's own answer comes when it has cleaned up, which may take seconds while the
        // disk is busy. Its event comes when the processes are gone, but only to who listens.
        tokio::select! {
            Some(exit) = self.die_event(id) => Ok(exit),
            exit = self.wait_answer(id) => exit,
        }
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

    async fn listening(&self, id: &str) -> Result<Vec<SocketAddr>, RuntimeError> {
        sockets::listening(&self.docker, id).await
    }

    async fn images(&self) -> Result<Vec<Image>, RuntimeError> {
        let options = ListImagesOptionsBuilder::new()
            .filters(&filter("reference", format!("{IMAGE_PREFIX}*")))
            .build();
        let mut images = self.tagged(options).await?;
        images.retain(|image| !images::is_derived(&image.name));
        Ok(images)
    }

    async fn derive(
        &self,
        owner: &Owner,
        base: &str,
        layer: tokio::fs::File,
        name: &str,
    ) -> Result<Image, RuntimeError> {
        self.derive_image(owner, base, layer, name).await
    }

    async fn derived(&self, installation: Uuid) -> Result<Vec<Image>, RuntimeError> {
        self.list_derived(installation).await
    }

    async fn keep(
        &self,
        owner: &Owner,
        container: &str,
        name: &str,
    ) -> Result<Image, RuntimeError> {
        self.commit(owner, container, name).await
    }

    async fn written(&self, id: &str) -> Result<u64, RuntimeError> {
        let options = InspectContainerOptionsBuilder::new().size(true).build();
        let found = self.docker.inspect_container(id, Some(options)).await;
        let size = found.map_err(engine)?.size_rw.unwrap_or_default();
        Ok(size.cast_unsigned())
    }

    async fn image_size(&self, name: &str) -> Result<u64, RuntimeError> {
        self.size_of(name).await
    }

    async fn pull(
        &self,
        owner: &Owner,
        reference: &str,
        name: &str,
    ) -> Result<(Image, ImageConfig), RuntimeError> {
        self.pull_bare(owner, reference, name).await
    }

    async fn remove_image(&self, name: &str) -> Result<(), RuntimeError> {
        self.remove_derived(name).await
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
