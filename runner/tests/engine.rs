//! The whole runner against a real container engine, with the runtime image and the package
//! index: what a person waits for when they deploy.

#![expect(clippy::unwrap_used, reason = "a test fails where it is")]
#![expect(
    clippy::disallowed_methods,
    reason = "a task of a test that fails takes the test with it"
)]

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use runner::limits::{Bounds, MIB};
use runner::protocol::{
    BuildSettings, DeploymentSpec, Goal, Limits, LogLine, LogStream, Phase, Report, Source,
    SyncRequest, SyncResponse, Variable, VariableValue,
};
use runner::runtime::docker::DockerRuntime;
use runner::runtime::{
    BuildEnd, Container, ContainerSpec, Mount, Owner, Role, Runtime, State, run_build,
};
use runner::{Config, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SERVER: &str = r#"
import os, sys
from fastmcp import FastMCP
print("starting with", os.environ["KEY"], file=sys.stderr)
mcp = FastMCP("hello")

@mcp.tool
def greet(name: str) -> str:
    return f"Hello {name}"
"#;
const CANARY: &str = "canary-value-17";

/// As much of a control plane as a runner talks to.
struct Control {
    address: SocketAddr,
    desired: watch::Sender<SyncResponse>,
    observed: watch::Receiver<BTreeMap<Uuid, Report>>,
    public_key: watch::Receiver<String>,
    logs: Arc<Mutex<Vec<LogLine>>>,
}

type Uploads = Arc<BTreeMap<String, Vec<u8>>>;

impl Control {
    async fn start(uploads: Uploads) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let desired = watch::Sender::new(SyncResponse {
            installation: Uuid::now_v7(),
            version: 1,
            desired: Vec::new(),
            plans: Vec::new(),
            removed_projects: Vec::new(),
            wanted_locks: Vec::new(),
        });
        let (observe, observed) = watch::channel(BTreeMap::new());
        let (say_key, public_key) = watch::channel(String::new());
        let logs = Arc::<Mutex<Vec<LogLine>>>::default();
        let state = Arc::new((
            desired.clone(),
            observe,
            say_key,
            Arc::clone(&logs),
            uploads,
        ));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    let (desired, observe, say_key, logs, uploads) = &*state;
                    answer(stream, desired, observe, say_key, logs, uploads).await;
                });
            }
        });
        Self {
            address,
            desired,
            observed,
            public_key,
            logs,
        }
    }

    fn want(&self, specs: &[DeploymentSpec]) {
        self.desired.send_modify(|desired| {
            desired.version += 1;
            desired.desired = specs.to_vec();
        });
    }

    async fn until(&mut self, what: impl Fn(&BTreeMap<Uuid, Report>) -> bool) {
        let waited =
            tokio::time::timeout(Duration::from_mins(2), self.observed.wait_for(|o| what(o)));
        let came_about = waited.await.is_ok();
        let seen = self.observed.borrow();
        assert!(
            came_about,
            "never so: {seen:#?}\n{}",
            self.log(LogStream::Build)
        );
    }

    async fn ends(&mut self, deployment: Uuid) -> Report {
        self.until(|o| {
            o.get(&deployment)
                .is_some_and(|r| matches!(r.phase, Phase::Healthy | Phase::Failed | Phase::Stopped))
        })
        .await;
        self.observed.borrow()[&deployment].clone()
    }

    fn log(&self, stream: LogStream) -> String {
        let logs = self.logs.lock().unwrap();
        let lines = logs.iter().filter(|line| line.stream == stream);
        let texts: Vec<&str> = lines.map(|line| line.text.as_str()).collect();
        texts.join("\n")
    }
}

async fn answer(
    mut stream: TcpStream,
    desired: &watch::Sender<SyncResponse>,
    observe: &watch::Sender<BTreeMap<Uuid, Report>>,
    say_key: &watch::Sender<String>,
    logs: &Mutex<Vec<LogLine>>,
    uploads: &BTreeMap<String, Vec<u8>>,
) {
    let mut request = Vec::new();
    let mut buffer = vec![0; 16_384];
    let (head, body) = loop {
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            return;
        }
        request.extend_from_slice(&buffer[..read]);
        let Some(at) = request.windows(4).position(|w| w == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8(request[..at].to_vec()).unwrap();
        let length: usize = head
            .lines()
            .find_map(|l| {
                l.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            })
            .unwrap_or(0);
        if request.len() - at - 4 >= length {
            break (head, request[at + 4..].to_vec());
        }
    };
    assert!(
        head.to_ascii_lowercase()
            .contains("authorization: bearer role-token")
    );
    let path = head.split(' ').nth(1).unwrap();
    let (status, body) = if path == "/internal/runner/sync" {
        let sync: SyncRequest = serde_json::from_slice(&body).unwrap();
        say_key.send_replace(sync.public_key);
        // A held sync waits for news and says nothing itself.
        if sync.wait_ms == 0 {
            let reports = sync.observed.into_iter().map(|r| (r.deployment, r));
            observe.send_replace(reports.collect());
        }
        let mut desired = desired.subscribe();
        let held = Duration::from_millis(sync.wait_ms.into());
        let changed = desired.wait_for(|d| d.version != sync.after);
        let _ = tokio::time::timeout(held, changed).await;
        let answer = desired.borrow().clone();
        ("200 OK", serde_json::to_vec(&answer).unwrap())
    } else if path == "/internal/runner/logs" {
        let lines: Vec<LogLine> = serde_json::from_slice(&body).unwrap();
        logs.lock().unwrap().extend(lines);
        ("204 No Content", Vec::new())
    } else {
        let hash = path.rsplit('/').next().unwrap();
        match uploads.get(hash) {
            Some(bytes) => ("200 OK", bytes.clone()),
            None => ("404 Not Found", Vec::new()),
        }
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
}

fn upload(uploads: &mut BTreeMap<String, Vec<u8>>, files: &[(&str, &str)]) -> Source {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    for (name, text) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, text.as_bytes())
            .unwrap();
    }
    let mut gzip = archive.into_inner().unwrap();
    gzip.flush().unwrap();
    let bytes = gzip.finish().unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    let bytes_of = digest.as_ref().iter();
    let sha256: String = bytes_of
        .map(|b| format!("{b:02x}"))
        .collect::<Vec<_>>()
        .concat();
    uploads.insert(sha256.clone(), bytes);
    Source::Upload { sha256 }
}

fn spec(project: Uuid, source: Source, public_key: &str) -> DeploymentSpec {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let key = crypto_box::PublicKey::from_slice(&base64.decode(public_key).unwrap()).unwrap();
    let sealed = key
        .seal(&mut crypto_box::aead::OsRng, CANARY.as_bytes())
        .unwrap();
    DeploymentSpec {
        deployment: Uuid::now_v7(),
        project,
        project_name: "hello".into(),
        organization: Uuid::nil(),
        goal: Goal::Run,
        source,
        entrypoint: None,
        build: BuildSettings::default(),
        build_variables: Vec::new(),
        public_url: "http://hello.localhost:8080/mcp".into(),
        own_sign_in: false,
        variables: vec![Variable {
            name: "KEY".into(),
            value: VariableValue::Sealed(base64.encode(sealed)),
        }],
        redis: false,
        reuse: None,
        limits: Limits {
            memory_bytes: 512 << 20,
            cpu_millis: 1000,
            pids: 128,
            build_seconds: 300,
            start_seconds: 60,
            data_bytes: 64 << 20,
        },
    }
}

fn config(data: &std::path::Path, control: SocketAddr) -> Config {
    Config {
        data: data.to_owned(),
        control_url: format!("http://{control}").parse().unwrap(),
        token: Some("role-token".into()),
        token_file: None,
        settings: settings(),
    }
}

fn settings() -> Settings {
    #[derive(clap::Parser)]
    struct Defaults {
        #[command(flatten)]
        settings: Settings,
    }
    <Defaults as clap::Parser>::parse_from(["test"]).settings
}

fn show(what: &str, begun: Instant, report: &Report) {
    let stages: Vec<String> = report
        .timings
        .iter()
        .map(|t| format!("{} {}", t.stage, t.duration_ms))
        .collect();
    println!(
        "{what}: {} ms ({})",
        begun.elapsed().as_millis(),
        stages.join(" · ")
    );
}

async fn engine() -> DockerRuntime {
    let settings = settings();
    let pool = settings.network_pool;
    let runtime = DockerRuntime::connect(&settings.docker_host, pool).await;
    runtime.expect("a container engine: run ./deploy/up, which installs one")
}

/// Removes what a test that failed left on the engine.
struct Cleanup(Uuid);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let installation = self.0;
        // A runtime of its own: the test's may be the one that is being torn down.
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let engine = engine().await;
                for container in engine.list(installation).await.unwrap() {
                    engine.remove(&container.id).await.unwrap();
                }
                for network in engine.networks(installation).await.unwrap() {
                    engine.remove_network(&network.id).await.unwrap();
                }
            });
        });
        cleaned.join().unwrap();
    }
}

/// Waits until so many containers are left: some are removed in the background.
async fn count_comes_to(installation: Uuid, count: usize) -> Vec<Container> {
    let engine = engine().await;
    let counted = async {
        loop {
            let left = engine.list(installation).await.unwrap();
            if left.len() == count {
                return left;
            }
        }
    };
    let counted = tokio::time::timeout(Duration::from_mins(1), counted).await;
    counted.expect("containers that should be gone are left")
}

/// Waits until the engine says that a container is in this state: on a busy machine it hears of a
/// freeze so late that it says `paused` for a moment after it has thawed the container.
async fn state_comes_to(id: &str, state: State) {
    let engine = engine().await;
    let came = async { while engine.inspect(id).await.unwrap().unwrap().state != state {} };
    let came = tokio::time::timeout(Duration::from_mins(1), came).await;
    came.unwrap_or_else(|_| panic!("it never was {state:?}"));
}

#[tokio::test]
async fn from_an_upload_to_a_live_server_and_back_to_nothing() {
    let images = engine().await.images().await.unwrap();
    assert!(
        images.iter().any(|image| image.name == "python:3.11"),
        "no berth/python:3.11: run ./deploy/images/build"
    );
    let mut uploads = BTreeMap::new();
    let first = upload(
        &mut uploads,
        &[
            ("main.py", SERVER),
            ("requirements.txt", "fastmcp==4.1.2\n"),
        ],
    );
    let changed = format!("{SERVER}\n@mcp.tool\ndef two() -> int:\n    return 2\n");
    let code = upload(
        &mut uploads,
        &[
            ("main.py", &changed),
            ("requirements.txt", "fastmcp==4.1.2\n"),
        ],
    );
    let more = upload(
        &mut uploads,
        &[
            ("main.py", SERVER),
            ("requirements.txt", "fastmcp==4.1.2\ntabulate==0.9.0\n"),
        ],
    );
    let broken = upload(
        &mut uploads,
        &[
            ("main.py", "import nothing_like_this\n"),
            ("requirements.txt", "fastmcp==4.1.2\n"),
        ],
    );
    let missing = upload(
        &mut uploads,
        &[
            ("main.py", SERVER),
            (
                "requirements.txt",
                "fastmcp==4.1.2\nno-such-package-xyzzy==9\n",
            ),
        ],
    );
    let mut control = Control::start(Arc::new(uploads)).await;
    let data = tempfile::tempdir().unwrap();
    let config = config(data.path(), control.address);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(runner::run(config.clone(), shutdown.clone()));
    control
        .public_key
        .wait_for(|key| !key.is_empty())
        .await
        .unwrap();
    let public_key = control.public_key.borrow().clone();
    let installation = control.desired.borrow().installation;
    let _cleanup = Cleanup(installation);
    let project = Uuid::now_v7();

    let a = spec(project, first, &public_key);
    let begun = Instant::now();
    control.want(std::slice::from_ref(&a));
    let report = control.ends(a.deployment).await;
    show("first deploy", begun, &report);
    assert_eq!(
        report.phase,
        Phase::Healthy,
        "{report:#?}\n{}",
        control.log(LogStream::Build)
    );
    let surface = report.surface.unwrap();
    assert_eq!(surface.tools[0]["name"], "greet");
    assert_eq!(surface.protocol_version, "2026-07-28");
    assert_eq!(surface.server_info["name"], "hello");
    tokio::net::TcpStream::connect(report.upstream.unwrap())
        .await
        .unwrap();

    let b = spec(project, code, &public_key);
    let begun = Instant::now();
    control.want(&[a.clone(), b.clone()]);
    let report = control.ends(b.deployment).await;
    show("code-only change", begun, &report);
    assert_eq!(report.phase, Phase::Healthy, "{report:#?}");
    assert_eq!(report.surface.unwrap().tools.len(), 2);
    assert!(
        report
            .timings
            .iter()
            .all(|timing| timing.stage != "install")
    );

    let c = spec(project, more, &public_key);
    let begun = Instant::now();
    control.want(&[b.clone(), c.clone()]);
    let report = control.ends(c.deployment).await;
    show("dependency change", begun, &report);
    assert_eq!(report.phase, Phase::Healthy, "{report:#?}");

    let mut failed = Vec::new();
    for (source, code) in [
        (broken, "package_missing"),
        (missing, "dependency_not_found"),
    ] {
        let spec = spec(project, source, &public_key);
        let begun = Instant::now();
        control.want(&[c.clone(), spec.clone()]);
        let report = control.ends(spec.deployment).await;
        show(code, begun, &report);
        let diagnosis = report.diagnosis.expect("a reason");
        println!(
            "  {} {} ({:?})",
            diagnosis.cause, diagnosis.fix, diagnosis.location
        );
        assert_eq!(
            diagnosis.code,
            code,
            "{diagnosis:?}\n{}",
            control.log(LogStream::Build)
        );
        failed.push(spec);
    }
    control.want(std::slice::from_ref(&c));
    control.until(|o| o.len() == 1).await;
    let left = count_comes_to(installation, 1).await;
    assert_eq!(
        (left[0].deployment, left[0].role),
        (c.deployment, Role::Instance)
    );

    let inspected = tokio::process::Command::new("docker")
        .args(["inspect", "--", &left[0].id])
        .output()
        .await
        .unwrap();
    assert!(!String::from_utf8_lossy(&inspected.stdout).contains(CANARY));
    let log = control.log(LogStream::Instance);
    assert!(
        log.contains("starting with •••") && !log.contains(CANARY),
        "{log}"
    );

    shutdown.cancel();
    running.await.unwrap().unwrap();
    let upstream = control.observed.borrow()[&c.deployment]
        .upstream
        .clone()
        .unwrap();
    tokio::net::TcpStream::connect(&upstream)
        .await
        .expect("it runs on without its runner");

    let shutdown = CancellationToken::new();
    let running = tokio::spawn(runner::run(config.clone(), shutdown.clone()));
    engine().await.remove(&left[0].id).await.unwrap();
    let begun = Instant::now();
    let c_id = c.deployment;
    control
        .until(move |o| o.get(&c_id).is_some_and(|r| r.phase == Phase::Starting))
        .await;
    let report = control.ends(c.deployment).await;
    show("restart of a killed instance", begun, &report);
    assert_eq!(report.phase, Phase::Healthy);

    shutdown.cancel();
    running.await.unwrap().unwrap();
    let removed = runner::remove_all(&config, None).await.unwrap();
    assert_eq!((removed.containers, removed.networks), (1, 1));
    count_comes_to(installation, 0).await;
}

/// What a program inside tries, and what it prints.
const INSIDE: &str = r##"
import os, socket, subprocess, sys
status = dict(l.split(":", 1) for l in open("/proc/self/status").read().splitlines())
print("uid", os.getuid(), os.getgid())
print("caps", status["CapEff"].strip(), status["CapBnd"].strip())
print("no-new-privs", status["NoNewPrivs"].strip())
def attempt(what, act):
    try:
        act()
        print(what, "done")
    except BaseException as error:
        print(what, "refused", type(error).__name__)
attempt("write /", lambda: open("/x", "w"))
attempt("write /usr", lambda: open("/usr/x", "w"))
attempt("write /tmp", lambda: open("/tmp/x", "w").write("x"))
attempt("write home", lambda: open(os.path.expanduser("~/x"), "w").write("x"))
attempt("write mount", lambda: open("/app/x", "w"))
def run_tmp():
    with open("/tmp/run", "w") as file:
        file.write("#!/bin/sh\n")
    os.chmod("/tmp/run", 0o755)
    subprocess.run(["/tmp/run"], check=True)
attempt("run /tmp", run_tmp)
attempt("raw socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("engine", lambda: os.stat("/var/run/docker.sock"))
children = []
def fork():
    for _ in range(500):
        pid = os.fork()
        if pid == 0:
            import time
            time.sleep(60)
        children.append(pid)
attempt("fork bomb", fork)
print("processes", len(children) < 64)
sys.stdout.flush()
for pid in children:
    os.kill(pid, 9)
"##;

fn probe_spec(
    installation: Uuid,
    role: Role,
    network: &str,
    app: &std::path::Path,
    code: &str,
) -> ContainerSpec {
    ContainerSpec {
        owner: Owner {
            installation,
            project: Uuid::now_v7(),
            deployment: Uuid::now_v7(),
        },
        role,
        image: "python:3.11".into(),
        command: ["/usr/bin/python3", "-c", code].map(String::from).to_vec(),
        environment: BTreeMap::from([("HOME".into(), "/home/app".into())]),
        working_dir: "/tmp".into(),
        home: runner::runtime::HOME,
        mounts: vec![Mount {
            source: app.to_owned(),
            target: "/app".into(),
            read_only: true,
        }],
        network: network.to_owned(),
        dns: Vec::new(),
        bounds: Bounds {
            memory_bytes: 128 * MIB,
            cpu_millis: 1000,
            pids: 64,
            tmp_bytes: 16 * MIB,
        },
    }
}

#[tokio::test]
async fn what_runs_inside_is_confined_and_can_be_frozen() {
    let runtime = engine().await;
    let installation = Uuid::now_v7();
    let _cleanup = Cleanup(installation);
    let project = Uuid::now_v7();
    let (one, two) = tokio::join!(
        runtime.ensure_network(installation, project),
        runtime.ensure_network(installation, project),
    );
    let network = one.unwrap();
    assert_eq!(network, two.unwrap(), "one network each, however many ask");
    let app = tempfile::tempdir().unwrap();
    let soon = || tokio::time::Instant::now() + Duration::from_mins(1);
    let never = CancellationToken::new();

    let spec = probe_spec(installation, Role::Instance, &network, app.path(), INSIDE);
    let mut lines = Vec::new();
    let end = run_build(&runtime, &spec, soon(), &never, |line| {
        lines.push(String::from_utf8(line.bytes).unwrap());
    });
    assert!(
        matches!(end.await.unwrap(), BuildEnd::Exited(exit) if exit.code == 0),
        "{lines:#?}"
    );
    assert_eq!(
        lines,
        [
            "uid 10001 10001",
            "caps 0000000000000000 0000000000000000",
            "no-new-privs 1",
            "write / refused OSError",
            "write /usr refused OSError",
            "write /tmp done",
            "write home done",
            "write mount refused OSError",
            "run /tmp refused PermissionError",
            "raw socket refused PermissionError",
            "engine refused FileNotFoundError",
            "fork bomb refused BlockingIOError",
            "processes True",
        ]
    );

    count_comes_to(installation, 0).await;

    let bomb = "x = []\nwhile True: x.append(bytearray(1 << 20))";
    let spec = probe_spec(installation, Role::Build, &network, app.path(), bomb);
    let end = run_build(&runtime, &spec, soon(), &never, |_| ())
        .await
        .unwrap();
    assert!(
        matches!(end, BuildEnd::Exited(exit) if exit.code == 137),
        "{end:?}"
    );

    let sleeper = "import time\nprint('up', flush=True)\ntime.sleep(600)";
    let spec = probe_spec(installation, Role::Build, &network, app.path(), sleeper);
    let shortly = tokio::time::Instant::now() + Duration::from_secs(2);
    let end = run_build(&runtime, &spec, shortly, &never, |_| ())
        .await
        .unwrap();
    assert_eq!(end, BuildEnd::TimedOut);
    let left = runtime.list(installation).await.unwrap();
    let is_sleeper = |c: &Container| c.deployment == spec.owner.deployment;
    assert!(!left.iter().any(is_sleeper), "killed and removed: {left:?}");

    let spec = probe_spec(installation, Role::Instance, &network, app.path(), sleeper);
    let id = runtime.start(&spec).await.unwrap();
    assert_ne!(
        runtime.start(&spec).await.unwrap(),
        id,
        "a second attempt replaces the first"
    );
    let all = runtime.list(installation).await.unwrap();
    let same: Vec<_> = all
        .iter()
        .filter(|c| c.deployment == spec.owner.deployment)
        .collect();
    assert_eq!(same.len(), 1);
    let id = same[0].id.clone();
    runtime.freeze(&id).await.unwrap();
    state_comes_to(&id, State::Frozen).await;
    let listed = runtime.list(installation).await.unwrap();
    assert!(
        listed
            .iter()
            .any(|c| c.id == id && c.state == State::Frozen)
    );
    runtime.thaw(&id).await.unwrap();
    state_comes_to(&id, State::Running).await;
    // Not every host's engine has figures; the question is answered anyhow.
    runtime.stats(&id).await.unwrap();
    runtime.remove(&id).await.unwrap();
    runtime.remove(&id).await.unwrap();
    assert!(runtime.inspect(&id).await.unwrap().is_none());
    runtime.remove_network(&network).await.unwrap();
    runtime.remove_network(&network).await.unwrap();
    assert!(runtime.networks(installation).await.unwrap().is_empty());
}
