//! An engine in memory, for tests of the loop: what it is told to start either runs a script or,
//! as an instance, answers MCP on an address of the loopback network.

#![expect(
    clippy::disallowed_methods,
    reason = "a task of a test that fails takes the test with it"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::{
    Container, ContainerSpec, Detail, Engine, Event, Exit, Image, ImageConfig, Network, OutputLine,
    Owner, Role, Runtime, RuntimeError, State, Stats,
};
use crate::clock;
use crate::variables::PORT;

/// What a container does once it is started.
#[derive(Debug, Clone)]
pub enum Script {
    /// A build that succeeds; an instance that answers MCP.
    Work,
    /// Writes lines and ends.
    End(i64, Vec<String>),
    /// Runs and says nothing.
    Hang,
}

struct Fake {
    spec: ContainerSpec,
    state: watch::Sender<(State, Option<Exit>)>,
    address: IpAddr,
    lines: Vec<String>,
    server: Option<DropGuard>,
}

#[derive(Default)]
struct World {
    containers: BTreeMap<String, Fake>,
    networks: BTreeMap<String, (Uuid, Uuid)>,
    scripts: Vec<(Role, Script)>,
    started: Vec<Role>,
    derived: Vec<Image>,
    has_no_redis: bool,
    written: u64,
    /// What is packed is a link to this.
    packed_link: Option<PathBuf>,
    steps: Vec<(ContainerSpec, serde_json::Value)>,
}

/// The engine. Clones are the same engine, as after a restart of the runner.
#[derive(Clone)]
pub struct FakeRuntime {
    world: Arc<Mutex<World>>,
    events: watch::Sender<u64>,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        Self {
            world: Arc::default(),
            events: watch::Sender::new(0),
        }
    }
}

impl FakeRuntime {
    /// The next containers of this role do this, instead of working.
    pub fn next(&self, role: Role, script: Script) {
        self.world().scripts.push((role, script));
    }

    /// How many containers of this role were ever started.
    pub fn started(&self, role: Role) -> usize {
        self.world().started.iter().filter(|r| **r == role).count()
    }

    /// The containers that are there.
    pub fn containers(&self) -> Vec<(Role, State)> {
        let world = self.world();
        let containers = world.containers.values();
        containers
            .map(|fake| (fake.spec.role, fake.state.borrow().0))
            .collect()
    }

    /// The number of networks that are there.
    pub fn network_count(&self) -> usize {
        self.world().networks.len()
    }

    /// The spec of the only instance.
    pub fn instance(&self) -> ContainerSpec {
        let world = self.world();
        let mut specs = world.containers.values().map(|fake| fake.spec.clone());
        specs
            .find(|spec| spec.role == Role::Instance)
            .expect("an instance")
    }

    /// The containers of steps that were ever started, with what they were told.
    pub fn steps(&self) -> Vec<(ContainerSpec, serde_json::Value)> {
        self.world().steps.clone()
    }

    /// The images that were made.
    pub fn images_made(&self) -> Vec<String> {
        let world = self.world();
        world
            .derived
            .iter()
            .map(|image| image.name.clone())
            .collect()
    }

    /// From now on every container has written so much.
    pub fn writes(&self, bytes: u64) {
        self.world().written = bytes;
    }

    /// From now on what packs files leaves a link in their place.
    pub fn packs_link(&self, to: PathBuf) {
        self.world().packed_link = Some(to);
    }

    /// The image of a Redis was never made.
    pub fn has_no_redis(&self) {
        self.world().has_no_redis = true;
    }

    /// Ends every container of a role, as a crash would.
    pub fn crash_all(&self, role: Role) {
        let exit = Exit {
            code: 1,
            out_of_memory: false,
        };
        self.end(role, exit);
    }

    /// Ends every instance, as a crash would.
    pub fn crash(&self, exit: Exit) {
        self.end(Role::Instance, exit);
    }

    fn end(&self, role: Role, exit: Exit) {
        for fake in self.world().containers.values_mut() {
            if fake.spec.role == role {
                fake.server = None;
                fake.state.send_replace((State::Exited, Some(exit)));
            }
        }
        self.tick();
    }

    fn pretend_step(&self, spec: &ContainerSpec) -> Vec<String> {
        let plan = std::fs::read_to_string(mounted(spec, "/run/berth/step.json")).unwrap();
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
        if plan["kind"] == "pack" {
            let out = mounted(spec, "/out");
            match &self.world().packed_link {
                Some(to) => std::os::unix::fs::symlink(to, out.join("files.tar")).unwrap(),
                None => std::fs::write(out.join("files.tar"), "").unwrap(),
            }
            std::fs::write(out.join("sources.json"), "[]").unwrap();
        }
        self.world().steps.push((spec.clone(), plan));
        vec![r#"@@berth {"phase":"done"}"#.to_owned()]
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn tick(&self) {
        self.events.send_modify(|count| *count += 1);
    }

    fn state(&self, id: &str) -> Option<watch::Receiver<(State, Option<Exit>)>> {
        let world = self.world();
        world.containers.get(id).map(|fake| fake.state.subscribe())
    }
}

/// An address of its own for every instance of every test of this process.
fn next_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id() % 200;
    Ipv4Addr::from(0x7f01_0000 + (process << 16) + number)
}

fn mounted(spec: &ContainerSpec, target: &str) -> PathBuf {
    let mount = spec.mounts.iter().find(|mount| mount.target == target);
    mount.expect("a mount").source.clone()
}

/// Does what the program would: writes a layer, makes the project's own files, or installs
/// "dependencies", whose lock is the declaration.
fn pretend_build(spec: &ContainerSpec) -> Vec<String> {
    let done = r#"@@berth {"phase":"done"}"#.to_owned();
    match spec.command[1].as_str() {
        "/berth/system.py" | "/berth/loader.py" => {
            std::fs::write(mounted(spec, "/out").join("layer.tar"), "").unwrap();
            std::fs::write(mounted(spec, "/out").join("packages.txt"), "jq=1\n").unwrap();
            return vec![done];
        }
        "/berth/command.py" => {
            std::fs::write(mounted(spec, "/app").join("made"), "").unwrap();
            return vec![done];
        }
        "/berth/wheels.py" => {
            std::fs::write(mounted(spec, "/env").join("marker"), "").unwrap();
            return vec![r#"@@berth {"phase":"install","ms":8}"#.to_owned(), done];
        }
        _ => {}
    }
    let plan = std::fs::read_to_string(mounted(spec, "/run/berth/plan.json")).unwrap();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    std::fs::write(
        mounted(spec, "/out").join("lock.txt"),
        plan["source"].to_string(),
    )
    .unwrap();
    std::fs::write(mounted(spec, "/env").join("marker"), "").unwrap();
    vec![
        r#"@@berth {"phase":"resolve","ms":7}"#.to_owned(),
        "installing".to_owned(),
        r#"@@berth {"phase":"install","ms":8}"#.to_owned(),
        r#"@@berth {"phase":"done","ms":15,"reused":false}"#.to_owned(),
    ]
}

async fn serve(listener: TcpListener, stop: CancellationToken) {
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                tokio::spawn(answer(stream));
            }
            () = stop.cancelled() => return,
        }
    }
}

/// Says yes to a password and to a ping.
async fn serve_redis(listener: TcpListener, stop: CancellationToken) {
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut stream, _) = accepted.unwrap();
                let _ = stream.read(&mut [0; 512]).await;
                let _ = stream.write_all(b"+OK\r\n+PONG\r\n").await;
            }
            () = stop.cancelled() => return,
        }
    }
}

/// One request of HTTP/1.1, answered as an MCP server of 2025-11-25 with one tool does.
async fn answer(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    let message = loop {
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            return;
        }
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            })
            .unwrap_or(0);
        if body.len() >= length {
            break serde_json::from_str::<serde_json::Value>(body).unwrap_or_default();
        }
    };
    let id = &message["id"];
    let (status, body) = match message["method"].as_str() {
        Some("initialize") => (
            "200 OK",
            serde_json::json!({"jsonrpc": "2.0", "id": id, "result": {
                "protocolVersion": "2025-11-25",
                "serverInfo": {"name": "fake", "version": "1"},
                "capabilities": {"tools": {}},
            }})
            .to_string(),
        ),
        Some("tools/list") => (
            "200 OK",
            serde_json::json!({"jsonrpc": "2.0", "id": id,
                "result": {"tools": [{"name": "greet"}]}})
            .to_string(),
        ),
        Some("server/discover") => ("400 Bad Request", "Missing session ID".to_owned()),
        _ => ("202 Accepted", String::new()),
    };
    let response = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nmcp-session-id: s\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(response.as_bytes()).await;
}

impl Runtime for FakeRuntime {
    async fn list(&self, installation: Uuid) -> Result<Vec<Container>, RuntimeError> {
        let world = self.world();
        Ok(world
            .containers
            .iter()
            .filter(|(_, fake)| fake.spec.owner.installation == installation)
            .map(|(id, fake)| Container {
                id: id.clone(),
                role: fake.spec.role,
                project: fake.spec.owner.project,
                deployment: fake.spec.owner.deployment,
                state: fake.state.borrow().0,
                address: Some(fake.address),
            })
            .collect())
    }

    async fn networks(&self, installation: Uuid) -> Result<Vec<Network>, RuntimeError> {
        let world = self.world();
        Ok(world
            .networks
            .iter()
            .filter(|(_, owner)| owner.0 == installation)
            .map(|(id, owner)| Network {
                id: id.clone(),
                project: owner.1,
            })
            .collect())
    }

    async fn ensure_network(
        &self,
        installation: Uuid,
        project: Uuid,
    ) -> Result<String, RuntimeError> {
        let id = format!("net-{project}");
        self.world()
            .networks
            .insert(id.clone(), (installation, project));
        Ok(id)
    }

    async fn remove_network(&self, id: &str) -> Result<(), RuntimeError> {
        let mut world = self.world();
        if world
            .containers
            .values()
            .any(|fake| fake.spec.network == id)
        {
            return Err(RuntimeError::Engine("network in use".into()));
        }
        world.networks.remove(id);
        Ok(())
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<String, RuntimeError> {
        let script = {
            let mut world = self.world();
            assert!(
                world.networks.contains_key(&spec.network),
                "no such network"
            );
            world.started.push(spec.role);
            let found = world
                .scripts
                .iter()
                .position(|(role, _)| *role == spec.role);
            found.map_or(Script::Work, |index| world.scripts.remove(index).1)
        };
        let id = format!("{}-{}", spec.role.as_str(), spec.owner.deployment);
        let address = next_address();
        let mut server = None;
        let (state, exit, lines) = match (script, spec.role) {
            (Script::Work, Role::Build | Role::Step | Role::Wheels) => {
                let exit = Exit {
                    code: 0,
                    out_of_memory: false,
                };
                let lines = match spec.role {
                    Role::Step => self.pretend_step(spec),
                    _ => pretend_build(spec),
                };
                (State::Exited, Some(exit), lines)
            }
            (Script::Work, Role::Redis) => {
                let stop = CancellationToken::new();
                let listener = TcpListener::bind((address, 6379)).await.unwrap();
                tokio::spawn(serve_redis(listener, stop.clone()));
                server = Some(stop.drop_guard());
                (State::Running, None, Vec::new())
            }
            (Script::Work, Role::Instance) => {
                let stop = CancellationToken::new();
                let listener = TcpListener::bind((address, PORT)).await.unwrap();
                tokio::spawn(serve(listener, stop.clone()));
                server = Some(stop.drop_guard());
                (State::Running, None, vec!["listening".to_owned()])
            }
            (Script::End(code, lines), _) => {
                let exit = Exit {
                    code,
                    out_of_memory: false,
                };
                (State::Exited, Some(exit), lines)
            }
            (Script::Hang, _) => (State::Running, None, Vec::new()),
        };
        let fake = Fake {
            spec: spec.clone(),
            state: watch::Sender::new((state, exit)),
            address: address.into(),
            lines,
            server,
        };
        self.world().containers.insert(id.clone(), fake);
        self.tick();
        Ok(id)
    }

    async fn inspect(&self, id: &str) -> Result<Option<Detail>, RuntimeError> {
        let world = self.world();
        Ok(world.containers.get(id).map(|fake| {
            let (state, exit) = *fake.state.borrow();
            Detail {
                state,
                address: (state == State::Running).then_some(fake.address),
                exit,
            }
        }))
    }

    async fn stop(&self, id: &str, _grace: Duration) -> Result<(), RuntimeError> {
        if let Some(fake) = self.world().containers.get_mut(id) {
            fake.server = None;
            let exit = Exit {
                code: 0,
                out_of_memory: false,
            };
            fake.state.send_replace((State::Exited, Some(exit)));
        }
        self.tick();
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        let removed = self.world().containers.remove(id);
        if let Some(fake) = removed {
            let exit = Exit {
                code: 137,
                out_of_memory: false,
            };
            fake.state.send_if_modified(|state| {
                let running = state.0 != State::Exited;
                if running {
                    *state = (State::Exited, Some(exit));
                }
                running
            });
        }
        self.tick();
        Ok(())
    }

    fn discard(&self, id: String) {
        self.world().containers.remove(&id);
        self.tick();
    }

    async fn freeze(&self, id: &str) -> Result<(), RuntimeError> {
        let world = self.world();
        let fake = world.containers.get(id);
        fake.map(|fake| fake.state.send_replace((State::Frozen, None)));
        Ok(())
    }

    async fn thaw(&self, id: &str) -> Result<(), RuntimeError> {
        let world = self.world();
        let fake = world.containers.get(id);
        fake.map(|fake| fake.state.send_replace((State::Running, None)));
        Ok(())
    }

    async fn wait(&self, id: &str) -> Result<Exit, RuntimeError> {
        let mut state = self
            .state(id)
            .ok_or_else(|| RuntimeError::NotFound(id.to_owned()))?;
        let ended = state.wait_for(|state| state.0 == State::Exited).await;
        let exit = ended.ok().and_then(|state| state.1);
        exit.ok_or_else(|| RuntimeError::NotFound(id.to_owned()))
    }

    fn output(
        &self,
        id: &str,
        _since: Option<OffsetDateTime>,
    ) -> BoxStream<'static, Result<OutputLine, RuntimeError>> {
        let world = self.world();
        let Some(fake) = world.containers.get(id) else {
            return stream::empty().boxed();
        };
        let lines: Vec<_> = fake
            .lines
            .iter()
            .map(|line| {
                Ok(OutputLine {
                    at: clock::now(),
                    bytes: line.clone().into_bytes(),
                })
            })
            .collect();
        let mut state = fake.state.subscribe();
        let ended = async move {
            let _ = state.wait_for(|state| state.0 == State::Exited).await;
        };
        let end = ended.into_stream().filter_map(|()| async { None });
        stream::iter(lines).chain(end).boxed()
    }

    fn events(&self, _installation: Uuid) -> BoxStream<'static, Result<Event, RuntimeError>> {
        stream::unfold(self.events.subscribe(), |mut events| async move {
            events.changed().await.ok()?;
            Some((Ok(Event), events))
        })
        .boxed()
    }

    async fn stats(&self, _id: &str) -> Result<Stats, RuntimeError> {
        Ok(Stats::default())
    }

    async fn listening(&self, _id: &str) -> Result<Vec<SocketAddr>, RuntimeError> {
        Ok(Vec::new())
    }

    async fn images(&self) -> Result<Vec<Image>, RuntimeError> {
        let image = |name: &str| Image {
            name: name.into(),
            id: format!("sha256:{name}"),
        };
        let mut images = vec![image("python:3.11")];
        if !self.world().has_no_redis {
            images.push(image("redis:7"));
        }
        Ok(images)
    }

    async fn derive(
        &self,
        _owner: &Owner,
        base: &str,
        _layer: tokio::fs::File,
        name: &str,
    ) -> Result<Image, RuntimeError> {
        let image = Image {
            name: name.to_owned(),
            id: format!("{base}+{name}"),
        };
        self.world().derived.push(image.clone());
        Ok(image)
    }

    async fn keep(
        &self,
        _owner: &Owner,
        container: &str,
        name: &str,
    ) -> Result<Image, RuntimeError> {
        let mut world = self.world();
        let spec = world
            .containers
            .get(container)
            .map(|fake| fake.spec.clone());
        let spec = spec.ok_or_else(|| RuntimeError::NotFound(container.to_owned()))?;
        let image = Image {
            name: name.to_owned(),
            id: format!("{}+{name}", spec.image),
        };
        world.derived.retain(|image| image.name != name);
        world.derived.push(image.clone());
        Ok(image)
    }

    async fn written(&self, _id: &str) -> Result<u64, RuntimeError> {
        Ok(self.world().written)
    }

    async fn image_size(&self, _name: &str) -> Result<u64, RuntimeError> {
        Ok(0)
    }

    async fn pull(
        &self,
        _owner: &Owner,
        reference: &str,
        _name: &str,
    ) -> Result<(Image, ImageConfig), RuntimeError> {
        Err(RuntimeError::Engine(format!("{reference}: no registry")))
    }

    async fn derived(&self, _installation: Uuid) -> Result<Vec<Image>, RuntimeError> {
        Ok(self.world().derived.clone())
    }

    async fn remove_image(&self, name: &str) -> Result<(), RuntimeError> {
        self.world().derived.retain(|image| image.name != name);
        Ok(())
    }

    async fn engine(&self) -> Result<Engine, RuntimeError> {
        Ok(Engine::default())
    }
}
