//! The loop against an engine in memory: from what is desired to what is reported.

#![expect(
    clippy::disallowed_methods,
    reason = "a task of a test that fails takes the test with it"
)]

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::agent::Agent;
use crate::build::source::{UploadSource, UploadStream};
use crate::config::{Config, Settings};
use crate::hash::sha256;
use crate::protocol::{
    BuildSettings, DeploymentSpec, Goal, Limits, LogStream, Phase, Report, Source, SyncResponse,
    Variable, VariableValue,
};
use crate::runtime::fake::{FakeRuntime, Script};
use crate::runtime::{Exit, Role, State};

const A: Uuid = Uuid::from_u128(0xa);
const B: Uuid = Uuid::from_u128(0xb);
const PROJECT: Uuid = Uuid::from_u128(0xc);
const SERVER: &str = "from fastmcp import FastMCP\nmcp = FastMCP('x')\n";
const CANARY: &str = "canary-4f1c\"9 value";

/// Uploaded archives by their hash.
#[derive(Default)]
struct Archives(BTreeMap<String, Bytes>);

impl Archives {
    fn add(&mut self, files: &[(&str, &str)]) -> Source {
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
        let hash = sha256(&bytes);
        self.0.insert(hash.clone(), bytes.into());
        Source::Upload { sha256: hash }
    }
}

impl UploadSource for Archives {
    fn open<'a>(&'a self, sha256: &'a str) -> BoxFuture<'a, anyhow::Result<Option<UploadStream>>> {
        let found = self.0.get(sha256).cloned();
        async move { Ok(found.map(|bytes| stream::iter([Ok(bytes)]).boxed())) }.boxed()
    }
}

/// A runner with its data directory, which a second one can take over.
struct Bench {
    installation: Uuid,
    data: TempDir,
    runtime: FakeRuntime,
    archives: Arc<Archives>,
    pull_images: Vec<String>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let memory = crate::variables::Memory::find().unwrap();
        memory.remove_all(self.installation);
        crate::volumes::release_all(&self.data.path().join("runner")).unwrap();
    }
}

struct Runner {
    installation: Uuid,
    agent: Arc<Agent<FakeRuntime>>,
    task: tokio::task::JoinHandle<()>,
    version: i64,
}

fn settings() -> Settings {
    Settings {
        docker_host: String::new(),
        runner_name: Some("test".into()),
        build_disk_mib: 8192,
        build_slots: 1,
        allow_file_sources: false,
        build_allow: Vec::new(),
        build_env: Vec::new(),
        pull_images: Vec::new(),
        ca_bundle: "/nowhere".into(),
        dns: Vec::new(),
        network_pool: crate::network::DEFAULT_POOL.parse().unwrap(),
    }
}

#[path = "loop_tests/dockerfile.rs"]
mod dockerfile;

impl Bench {
    fn new(archives: Archives) -> Self {
        Self {
            installation: Uuid::now_v7(),
            data: tempfile::tempdir().unwrap(),
            runtime: FakeRuntime::default(),
            archives: Arc::new(archives),
            pull_images: Vec::new(),
        }
    }

    fn run(&self) -> Runner {
        let config = Config {
            data: self.data.path().to_owned(),
            control_url: "http://127.0.0.1:1".parse().unwrap(),
            token: Some("t".into()),
            token_file: None,
            settings: Settings {
                pull_images: self.pull_images.clone(),
                ..settings()
            },
        };
        let shutdown = CancellationToken::new();
        let agent = Arc::new(Agent::new(&config, self.runtime.clone(), shutdown).unwrap());
        let uploads: Arc<dyn UploadSource> = self.archives.clone();
        let looping = Arc::clone(&agent);
        let task = tokio::spawn(async move { crate::work::work(&looping, uploads).await });
        Runner {
            installation: self.installation,
            agent,
            task,
            version: 0,
        }
    }
}

impl Runner {
    fn want(&mut self, desired: &[DeploymentSpec]) {
        self.version += 1;
        self.agent.set_desired(SyncResponse {
            installation: self.installation,
            version: self.version,
            desired: desired.to_vec(),
            plans: Vec::new(),
            removed_projects: Vec::new(),
            wanted_locks: Vec::new(),
        });
    }

    async fn until(
        &self,
        what: impl Fn(&BTreeMap<Uuid, Report>) -> bool,
    ) -> BTreeMap<Uuid, Report> {
        let mut board = self.agent.board();
        let waited = timeout(Duration::from_secs(20), board.wait_for(|b| what(b))).await;
        let found = waited.map(|found| found.unwrap().clone());
        found.unwrap_or_else(|_| panic!("never so: {:#?}", self.agent.board().borrow()))
    }

    async fn reaches(&self, deployment: Uuid, phase: Phase) -> Report {
        let reached =
            |b: &BTreeMap<Uuid, Report>| b.get(&deployment).is_some_and(|r| r.phase == phase);
        self.until(reached).await[&deployment].clone()
    }

    fn log(&self, stream: LogStream) -> String {
        let lines = self.agent.logs.batch();
        let lines = lines.into_iter().filter(|line| line.stream == stream);
        lines.map(|line| line.text + "\n").collect()
    }

    async fn end(self) {
        self.agent.shutdown.cancel();
        self.task.await.unwrap();
    }
}

fn spec(deployment: Uuid, source: Source, goal: Goal) -> DeploymentSpec {
    DeploymentSpec {
        deployment,
        project: PROJECT,
        project_name: "hello".into(),
        organization: Uuid::nil(),
        goal,
        source,
        entrypoint: None,
        build: BuildSettings::default(),
        build_variables: Vec::new(),
        public_url: "http://hello.localhost:8080/mcp".into(),
        own_sign_in: false,
        variables: Vec::new(),
        redis: false,
        reuse: None,
        limits: Limits {
            memory_bytes: 256 << 20,
            cpu_millis: 500,
            pids: 64,
            build_seconds: 60,
            start_seconds: 10,
            data_bytes: 32 << 20,
        },
    }
}

/// Waits for a condition that nothing reports.
async fn eventually(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), wait)
        .await
        .expect("it never came about");
}

/// One deployment of one small server.
fn hello() -> (Bench, Source) {
    let mut archives = Archives::default();
    let source = archives.add(&[("main.py", SERVER)]);
    (Bench::new(archives), source)
}

#[tokio::test]
async fn a_deployment_becomes_healthy_and_reports_all_of_it() {
    let (bench, source) = hello();
    let mut runner = bench.run();
    runner.want(&[spec(A, source.clone(), Goal::Run)]);
    let report = runner.reaches(A, Phase::Healthy).await;
    let Source::Upload { sha256 } = source else {
        unreachable!()
    };
    assert_eq!(report.commit.unwrap().id, sha256);
    assert_eq!(report.plan.unwrap().entrypoint, "main.py");
    let surface = report.surface.unwrap();
    assert_eq!(surface.tools[0]["name"], "greet");
    assert_eq!(surface.server_info["name"], "fake");
    assert!(report.upstream.unwrap().ends_with(":8080"));
    let stages: Vec<&str> = report.timings.iter().map(|t| t.stage.as_str()).collect();
    assert_eq!(
        stages,
        [
            "fetch", "plan", "resolve", "install", "start", "import", "check"
        ]
    );
    assert!(runner.log(LogStream::Build).contains("installing"));
    assert!(!runner.log(LogStream::Build).contains("@@berth"));
    assert!(runner.log(LogStream::Instance).contains("listening"));
    assert_eq!(
        bench.runtime.containers(),
        [(Role::Instance, State::Running)]
    );
    let environment = bench.runtime.instance().environment;
    assert_eq!(environment["BERTH_COMMIT"], sha256);
    assert_eq!(environment["BERTH_ENTRYPOINT"], "main.py");
    runner.end().await;
}

#[tokio::test]
async fn a_redis_is_there_for_the_server_comes_back_and_goes_with_it() {
    let (bench, source) = hello();
    let mut runner = bench.run();
    let with = DeploymentSpec {
        redis: true,
        ..spec(A, source.clone(), Goal::Run)
    };
    runner.want(std::slice::from_ref(&with));
    runner.reaches(A, Phase::Healthy).await;
    let mounts = bench.runtime.instance().mounts;
    let file = mounts
        .iter()
        .find(|mount| mount.target == crate::variables::VARIABLES_FILE);
    let variables = std::fs::read_to_string(&file.unwrap().source).unwrap();
    let variables: serde_json::Value = serde_json::from_str(&variables).unwrap();
    let url = variables["REDIS_URL"].as_str().unwrap();
    assert!(url.starts_with("redis://:") && url.ends_with("@redis:6379/0"));
    let password = &url["redis://:".len()..url.find('@').unwrap()];
    assert_eq!(runner.agent.log(A, LogStream::Build).mask(password), "•••");
    let running = |role| {
        let containers = bench.runtime.containers();
        containers.contains(&(role, State::Running))
    };
    assert!(running(Role::Redis));
    bench.runtime.crash_all(Role::Redis);
    eventually(|| bench.runtime.started(Role::Redis) == 2 && running(Role::Redis)).await;
    assert_eq!(bench.runtime.started(Role::Instance), 1);
    runner.want(&[spec(A, source, Goal::Stop)]);
    runner.reaches(A, Phase::Stopped).await;
    eventually(|| bench.runtime.containers().is_empty()).await;
    runner.end().await;
}

#[tokio::test]
async fn a_redis_without_its_image_is_a_failure_that_says_how_to_make_it() {
    let (bench, source) = hello();
    bench.runtime.has_no_redis();
    let mut runner = bench.run();
    runner.want(&[DeploymentSpec {
        redis: true,
        ..spec(A, source, Goal::Run)
    }]);
    let cause = runner
        .reaches(A, Phase::Failed)
        .await
        .diagnosis
        .unwrap()
        .cause;
    assert!(cause.contains("deploy/images/build redis:7"), "{cause}");
    assert_eq!(bench.runtime.started(Role::Instance), 0);
    runner.end().await;
}

#[tokio::test]
async fn files_stay_until_their_project_is_deleted() {
    let (bench, source) = hello();
    let mut runner = bench.run();
    runner.want(&[spec(A, source.clone(), Goal::Run)]);
    runner.reaches(A, Phase::Healthy).await;
    let volume = bench
        .data
        .path()
        .join("runner/volumes")
        .join(PROJECT.to_string());
    std::fs::write(volume.join("kept"), "here").unwrap();
    runner.want(&[]);
    eventually(|| bench.runtime.containers().is_empty()).await;
    runner.want(&[spec(B, source, Goal::Run)]);
    runner.reaches(B, Phase::Healthy).await;
    assert!(volume.join("kept").exists());
    runner.agent.set_desired(SyncResponse {
        installation: runner.installation,
        version: 9,
        desired: Vec::new(),
        plans: Vec::new(),
        removed_projects: vec![PROJECT],
        wanted_locks: Vec::new(),
    });
    eventually(|| !volume.exists()).await;
    assert!(!volume.with_extension("img").exists());
    runner.end().await;
}

#[tokio::test]
async fn changed_code_installs_nothing() {
    let mut archives = Archives::default();
    let one = archives.add(&[("main.py", SERVER)]);
    let two = archives.add(&[("main.py", &format!("{SERVER}\n# changed\n"))]);
    let bench = Bench::new(archives);
    let mut runner = bench.run();
    runner.want(&[spec(A, one.clone(), Goal::Run)]);
    runner.reaches(A, Phase::Healthy).await;
    runner.want(&[spec(A, one, Goal::Run), spec(B, two, Goal::Run)]);
    let report = runner.reaches(B, Phase::Healthy).await;
    assert_eq!(bench.runtime.started(Role::Build), 1);
    assert!(
        report
            .timings
            .iter()
            .all(|timing| timing.stage != "install")
    );
    assert_eq!(bench.runtime.containers().len(), 2, "side by side");
    runner.end().await;
}

#[tokio::test]
async fn a_build_is_used_again_without_fetching_or_installing() {
    let (bench, source) = hello();
    let mut runner = bench.run();
    runner.want(&[spec(A, source.clone(), Goal::Run)]);
    let first = runner.reaches(A, Phase::Healthy).await;
    // Nobody could fetch this.
    let nowhere = Source::Upload { sha256: "0".into() };
    let again = DeploymentSpec {
        reuse: Some(A),
        ..spec(B, nowhere, Goal::Run)
    };
    runner.want(&[spec(A, source, Goal::Run), again]);
    let second = runner.reaches(B, Phase::Healthy).await;
    assert_eq!((&second.commit, &second.plan), (&first.commit, &first.plan));
    assert!(first.lock.is_some() && second.lock == first.lock);
    let stages: Vec<&str> = second.timings.iter().map(|t| t.stage.as_str()).collect();
    assert_eq!(stages, ["start", "import", "check"]);
    assert_eq!(bench.runtime.started(Role::Build), 1);
    assert_eq!(bench.runtime.containers().len(), 2, "side by side");
    runner.end().await;
}

#[tokio::test]
async fn a_server_that_cannot_start_fails_with_its_reason_and_leaves_nothing() {
    let (bench, source) = hello();
    bench.runtime.next(
        Role::Instance,
        Script::End(
            1,
            vec![
                "Traceback …".into(),
                r#"@@berth {"phase":"fail","step":"import","exception":"KeyError","message":"'API_KEY'","file":"main.py","line":2,"missing_variables":["API_KEY"]}"#.into(),
            ],
        ),
    );
    let mut runner = bench.run();
    runner.want(&[spec(A, source, Goal::Run)]);
    let report = runner.reaches(A, Phase::Failed).await;
    let diagnosis = report.diagnosis.unwrap();
    assert_eq!(diagnosis.code, "missing_variable");
    assert!(diagnosis.cause.contains("API_KEY"), "{}", diagnosis.cause);
    assert!(runner.log(LogStream::Build).contains(&diagnosis.cause));
    assert!(runner.log(LogStream::Instance).contains("Traceback"));
    eventually(|| bench.runtime.containers().is_empty() && bench.runtime.network_count() == 0)
        .await;
    assert_eq!(bench.runtime.started(Role::Instance), 1, "not tried again");
    runner.end().await;
}

#[tokio::test]
async fn a_build_that_fails_says_why_and_leaves_nothing() {
    let (bench, source) = hello();
    bench.runtime.next(
        Role::Build,
        Script::End(
            1,
            vec![r#"@@berth {"phase":"fail","step":"resolve","code":"not_found","message":"x","package":"fastmpc"}"#.into()],
        ),
    );
    let mut runner = bench.run();
    runner.want(&[spec(A, source, Goal::Run)]);
    let report = runner.reaches(A, Phase::Failed).await;
    assert_eq!(report.diagnosis.unwrap().code, "dependency_not_found");
    eventually(|| bench.runtime.containers().is_empty() && bench.runtime.network_count() == 0)
        .await;
    runner.end().await;
}

#[tokio::test]
async fn a_live_instance_that_dies_comes_back_elsewhere() {
    let (bench, source) = hello();
    let mut runner = bench.run();
    runner.want(&[spec(A, source, Goal::Run)]);
    let first = runner.reaches(A, Phase::Healthy).await.upstream;
    bench.runtime.crash(Exit {
        code: 139,
        out_of_memory: false,
    });
    let moved = |b: &BTreeMap<Uuid, Report>| {
        b[&A].phase == Phase::Healthy && b[&A].upstream.is_some() && b[&A].upstream != first
    };
    runner.until(moved).await;
    assert!(
        runner
            .log(LogStream::Instance)
            .contains("ended with status 139")
    );
    assert_eq!(bench.runtime.started(Role::Build), 1);
    runner.end().await;
}

#[tokio::test]
async fn a_restarted_runner_takes_over_what_runs() {
    let (bench, source) = hello();
    let mut runner = bench.run();
    runner.want(&[spec(A, source.clone(), Goal::Run)]);
    let before = runner.reaches(A, Phase::Healthy).await;
    runner.end().await;
    let mut runner = bench.run();
    assert_eq!(
        runner.agent.board().borrow()[&A],
        before,
        "known before anything is asked"
    );
    runner.want(&[spec(A, source, Goal::Run)]);
    eventually(|| {
        runner
            .log(LogStream::Build)
            .contains("The server answers MCP")
    })
    .await;
    let after = runner.reaches(A, Phase::Healthy).await;
    assert_eq!(after.upstream, before.upstream);
    assert_eq!(bench.runtime.started(Role::Instance), 1);
    runner.end().await;
}

#[tokio::test]
async fn what_died_while_the_runner_was_away_comes_back() {
    let (bench, source) = hello();
    let mut runner = bench.run();
    runner.want(&[spec(A, source.clone(), Goal::Run)]);
    let before = runner.reaches(A, Phase::Healthy).await.upstream;
    runner.end().await;
    bench.runtime.crash(Exit {
        code: 137,
        out_of_memory: true,
    });
    let mut runner = bench.run();
    runner.want(&[spec(A, source, Goal::Run)]);
    runner
        .until(|b| b[&A].phase == Phase::Healthy && b[&A].upstream != before)
        .await;
    assert!(
        runner
            .log(LogStream::Instance)
            .contains("used more than its memory")
    );
    runner.end().await;
}

#[tokio::test]
async fn what_is_not_wanted_any_more_goes_with_all_that_belongs_to_it() {
    let (bench, source) = hello();
    let mut runner = bench.run();
    runner.want(&[spec(A, source, Goal::Run)]);
    runner.reaches(A, Phase::Healthy).await;
    let variables = bench.runtime.instance().mounts;
    let variables = variables
        .iter()
        .find(|m| m.target == "/run/berth/variables.json")
        .unwrap();
    assert!(variables.source.is_file());
    runner.want(&[]);
    runner.until(BTreeMap::is_empty).await;
    assert!(!variables.source.exists());
    eventually(|| bench.runtime.containers().is_empty() && bench.runtime.network_count() == 0)
        .await;
    runner.end().await;
}

#[tokio::test]
async fn nothing_is_removed_before_the_installation_is_known() {
    let (bench, source) = hello();
    let mut runner = bench.run();
    runner.want(&[spec(A, source, Goal::Run)]);
    runner.reaches(A, Phase::Healthy).await;
    runner.end().await;
    let runner = bench.run();
    tokio::task::yield_now().await;
    runner.end().await;
    assert_eq!(
        bench.runtime.containers(),
        [(Role::Instance, State::Running)]
    );
}

#[tokio::test]
async fn a_stopped_deployment_starts_again_without_a_build() {
    let (bench, source) = hello();
    let mut runner = bench.run();
    runner.want(&[spec(A, source.clone(), Goal::Run)]);
    runner.reaches(A, Phase::Healthy).await;
    runner.want(&[spec(A, source.clone(), Goal::Stop)]);
    let stopped = runner.reaches(A, Phase::Stopped).await;
    assert_eq!(stopped.upstream, None);
    assert!(stopped.surface.is_some(), "once reported stays reported");
    eventually(|| bench.runtime.containers().is_empty()).await;
    runner.want(&[spec(A, source, Goal::Run)]);
    runner.reaches(A, Phase::Healthy).await;
    assert_eq!(bench.runtime.started(Role::Build), 1);
    runner.end().await;
}

#[tokio::test]
async fn stopping_calls_a_build_off() {
    let (bench, source) = hello();
    bench.runtime.next(Role::Build, Script::Hang);
    let mut runner = bench.run();
    runner.want(&[spec(A, source.clone(), Goal::Run)]);
    eventually(|| bench.runtime.started(Role::Build) == 1).await;
    runner.want(&[spec(A, source, Goal::Stop)]);
    runner.reaches(A, Phase::Stopped).await;
    eventually(|| bench.runtime.containers().is_empty()).await;
    runner.end().await;
}

#[tokio::test]
async fn a_start_that_says_nothing_ends_at_its_deadline() {
    let (bench, source) = hello();
    bench.runtime.next(Role::Instance, Script::Hang);
    let mut runner = bench.run();
    let mut spec = spec(A, source, Goal::Run);
    spec.limits.start_seconds = 1;
    runner.want(&[spec]);
    let report = runner.reaches(A, Phase::Failed).await;
    assert_eq!(report.diagnosis.unwrap().code, "start_timeout");
    eventually(|| bench.runtime.containers().is_empty()).await;
    runner.end().await;
}

#[tokio::test]
async fn a_secret_is_in_memory_and_nowhere_else() {
    let (bench, source) = hello();
    bench.runtime.next(
        Role::Instance,
        Script::End(
            1,
            vec![
                format!("the key is {CANARY}"),
                format!(r#"@@berth {{"phase":"fail","step":"import","exception":"ValueError","message":"bad key {}"}}"#, CANARY.replace('"', "\\\"")),
            ],
        ),
    );
    let mut runner = bench.run();
    let public = runner.agent.keys.public_base64();
    let mut spec = spec(A, source, Goal::Run);
    spec.variables = vec![Variable {
        name: "KEY".into(),
        value: VariableValue::Sealed(crate::keys::seal_for_tests(&public, CANARY)),
    }];
    runner.want(&[spec]);
    let report = runner.reaches(A, Phase::Failed).await;
    let said = serde_json::to_string(&report).unwrap();
    assert!(
        said.contains("•••") && !said.contains("canary-4f1c"),
        "{said}"
    );
    eventually(|| runner.log(LogStream::Instance).contains("the key is •••")).await;
    assert!(!runner.log(LogStream::Build).contains("canary-4f1c"));
    runner.end().await;
    let mut ahead = vec![bench.data.path().to_owned()];
    while let Some(path) = ahead.pop() {
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                ahead.push(entry.path());
            } else {
                let bytes = std::fs::read(entry.path()).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.contains("canary-4f1c"), "{}", entry.path().display());
            }
        }
    }
}

/// As much of a control plane as the conversation needs: every message, and an answer when told.
struct Control {
    installation: Uuid,
    address: std::net::SocketAddr,
    heard: tokio::sync::watch::Receiver<Vec<(String, serde_json::Value)>>,
    answers: tokio::sync::watch::Sender<Option<SyncResponse>>,
    server: CancellationToken,
}

impl Control {
    async fn start(address: &str, installation: Uuid) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (hear, heard) = tokio::sync::watch::channel(Vec::new());
        let answers = tokio::sync::watch::Sender::new(None);
        let server = CancellationToken::new();
        let (stop, hear, answer) = (server.clone(), Arc::new(hear), answers.clone());
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(Self::converse(
                    stream,
                    Arc::clone(&hear),
                    answer.subscribe(),
                ));
            }
        }));
        Self {
            installation,
            address,
            heard,
            answers,
            server,
        }
    }

    async fn converse(
        mut stream: tokio::net::TcpStream,
        hear: Arc<tokio::sync::watch::Sender<Vec<(String, serde_json::Value)>>>,
        mut answers: tokio::sync::watch::Receiver<Option<SyncResponse>>,
    ) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut request = String::new();
        let mut buffer = vec![0; 65_536];
        let (path, message) = loop {
            let read = stream.read(&mut buffer).await.unwrap_or(0);
            if read == 0 {
                return;
            }
            request += std::str::from_utf8(&buffer[..read]).unwrap();
            let Some((head, body)) = request.split_once("\r\n\r\n") else {
                continue;
            };
            assert!(head.contains("authorization: Bearer t"), "{head}");
            if let Ok(message) = serde_json::from_str::<serde_json::Value>(body) {
                break (head.split(' ').nth(1).unwrap().to_owned(), message);
            }
        };
        let after = message["after"].as_i64();
        let is_sync = path.ends_with("/sync");
        hear.send_modify(|heard| heard.push((path, message)));
        let body = if is_sync {
            let news =
                |a: &Option<SyncResponse>| a.as_ref().is_some_and(|a| Some(a.version) != after);
            let answer = answers.wait_for(news).await.unwrap().clone();
            serde_json::to_string(&answer).unwrap()
        } else {
            String::new()
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all((head + &body).as_bytes()).await;
    }

    async fn hears(&mut self, what: impl Fn(&str, &serde_json::Value) -> bool) {
        let heard = self
            .heard
            .wait_for(|all| all.iter().any(|(path, m)| what(path, m)));
        timeout(Duration::from_secs(20), heard)
            .await
            .expect("it never said so")
            .unwrap();
    }

    async fn hears_phase(&mut self, phase: &str) {
        self.hears(|path, m| path.ends_with("/sync") && m["observed"][0]["phase"] == phase)
            .await;
    }

    fn wants(&self, version: i64, desired: Vec<DeploymentSpec>) {
        let answer = SyncResponse {
            installation: self.installation,
            version,
            desired,
            plans: Vec::new(),
            removed_projects: Vec::new(),
            wanted_locks: Vec::new(),
        };
        self.answers.send_replace(Some(answer));
    }
}

#[tokio::test]
async fn the_conversation_goes_on_by_itself_and_survives_an_absence() {
    let (bench, source) = hello();
    let mut control = Control::start("127.0.0.1:0", bench.installation).await;
    let config = Config {
        data: bench.data.path().to_owned(),
        control_url: format!("http://{}", control.address).parse().unwrap(),
        token: Some("t".into()),
        token_file: None,
        settings: settings(),
    };
    let shutdown = CancellationToken::new();
    let agent = Agent::new(&config, bench.runtime.clone(), shutdown.clone()).unwrap();
    let agent = Arc::new(agent);
    let link = crate::sync::Control::new(&config).unwrap();
    let uploads: Arc<dyn UploadSource> = bench.archives.clone();
    let running = tokio::spawn(async move {
        tokio::join!(
            crate::sync::sync(&link, &agent),
            crate::sync::send_logs(&link, &agent),
            crate::work::work(&agent, uploads),
        );
    });
    control
        .hears(|path, m| path.ends_with("/sync") && m["images"][0] == "python:3.11")
        .await;
    control.wants(1, vec![spec(A, source.clone(), Goal::Run)]);
    // The answer to these polls is never ready: only that they are cut short brings the news.
    control.hears_phase("healthy").await;
    control
        .hears(|path, lines| path.ends_with("/logs") && lines[0]["deployment"] == A.to_string())
        .await;

    control.server.cancel();
    bench.runtime.crash(Exit {
        code: 1,
        out_of_memory: false,
    });
    eventually(|| bench.runtime.started(Role::Instance) == 2).await;
    let mut control = Control::start(&control.address.to_string(), bench.installation).await;
    control
        .hears(|path, m| path.ends_with("/sync") && m["after"] == 0)
        .await;
    control.hears_phase("healthy").await;
    let ended = |lines: &serde_json::Value| lines.to_string().contains("ended with status 1");
    control
        .hears(|path, lines| path.ends_with("/logs") && ended(lines))
        .await;
    control.wants(2, Vec::new());
    control
        .hears(|path, m| {
            path.ends_with("/sync") && m["after"] == 2 && m["observed"] == serde_json::json!([])
        })
        .await;
    shutdown.cancel();
    running.await.unwrap();
}
