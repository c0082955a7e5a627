//! `kill -9` at every point of a deployment loses nothing.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::mcp::Caller;
use tests::platform::{Options, Platform};
use tests::repository::Repository;
use tests::spare_edge::SpareEdge;
use tests::wait;

use crate::Test;

pub const TESTS: &[Test] = &[
    (
        "kill::at_every_point_of_a_deployment",
        at_every_point_of_a_deployment,
    ),
    ("kill::a_stop_loses_no_call", a_stop_loses_no_call),
];

/// Marks the moment it is probed, and takes its time to import so that there is a moment to kill.
const SERVER: &str = r#"
import pathlib, time
from fastmcp import FastMCP
from fastmcp.server.middleware import Middleware

time.sleep(1.5)
mcp = FastMCP("tests")

class Mark(Middleware):
    async def on_list_tools(self, context, call_next):
        pathlib.Path("/data/probed-VERSION").write_text("yes")
        return await call_next(context)

mcp.add_middleware(Mark())

@mcp.tool
def version() -> str:
    return "VERSION"
"#;

/// Longest from a restart to the end of a deployment, and from there to a clean engine.
const SETTLE: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug)]
enum Point {
    Build,
    Start,
    Check,
    Promote,
}

fn files(version: usize, extra: &str) -> [(&'static str, String); 2] {
    let requirements = format!("fastmcp==4.1.2\n{extra}");
    [
        ("main.py", SERVER.replace("VERSION", &format!("v{version}"))),
        ("requirements.txt", requirements),
    ]
}

fn commit(repository: &Repository, version: usize, extra: &str) -> Result<String> {
    let files = files(version, extra);
    repository.commit(&files.each_ref().map(|(name, text)| (*name, text.as_str())))
}

fn at_every_point_of_a_deployment() -> Result<()> {
    let platform = Platform::start(Options {
        settings: vec![("BERTH_DRAIN_SECONDS".into(), "15".into())],
    })?;
    let first = files(0, "");
    let repository = Repository::new(&first.each_ref().map(|(name, text)| (*name, text.as_str())))?;
    platform.deploy_live("killed", &repository.url(), &[])?;
    for (version, point) in [Point::Build, Point::Start, Point::Check, Point::Promote]
        .into_iter()
        .enumerate()
    {
        one_point(&platform, &repository, version + 1, point)
            .with_context(|| format!("killed at {point:?}"))?;
    }
    Ok(())
}

/// What was not reported yet is reported then; and once.
fn a_stop_loses_no_call() -> Result<()> {
    let platform = Platform::start(Options::default())?;
    let first = files(0, "");
    let repository = Repository::new(&first.each_ref().map(|(name, text)| (*name, text.as_str())))?;
    platform.deploy_live("stopped", &repository.url(), &[])?;
    let caller = Caller::new(&platform, "stopped")?;
    let mut made = 0;
    for _ in 0..2 {
        for _ in 0..20 {
            let answer = caller.call("version", &json!({}))?;
            ensure!(answer.status() == 200, "{answer:?}");
            made += 1;
        }
        platform.terminate()?;
        platform.launch()?;
        platform.wait_ready()?;
        let counted = platform.sql("select coalesce(sum(calls), 0) from usage_minutes")?;
        ensure!(counted.trim() == made.to_string(), "{made}: {counted}");
    }
    Ok(())
}

fn one_point(
    platform: &Platform,
    repository: &Repository,
    version: usize,
    point: Point,
) -> Result<()> {
    let old = settled_container(platform)?;
    let old_started = started_at(&old)?;
    // A changed requirement makes every one of them build.
    let pins = [
        "",
        "six==1.16.0\n",
        "six==1.17.0\n",
        "six==1.15.0\n",
        "toml==0.10.2\n",
    ];
    let commit = commit(repository, version, pins[version])?;
    let mut created = engine_events(platform, "create")?;
    platform
        .berth(&[
            "deploy",
            "--git",
            &repository.url(),
            "--project",
            "killed",
            "--json",
        ])?
        .success()?;
    let caller = Caller::new(platform, "killed")?;
    let witness = Witness::start(platform, &caller)?;
    reach(platform, point, version, &mut created)?;
    platform.kill()?;
    ensure!(
        started_at(&old)? == old_started,
        "the old instance was touched"
    );
    platform.launch()?;
    platform.wait_ready()?;
    witness.finish()?;
    let (mut served, mut refused) = (0, Vec::new());
    let state = wait::until("the deployment to end", SETTLE, || {
        match caller.call("version", &json!({})) {
            Ok(answer) if answer.status() == 200 => served += 1,
            other => refused.push(format!("{other:?}")),
        }
        let state = platform.sql("select state from deployments order by number desc limit 1")?;
        Ok(["live", "failed"]
            .contains(&state.trim())
            .then(|| state.trim().to_owned()))
    })?;
    ensure!(
        refused.is_empty(),
        "the old one served throughout, {served} times but not: {refused:#?}"
    );
    ensure!(
        platform
            .sql("select count(*) from deployments where state = 'live'")?
            .trim()
            == "1",
        "one is live"
    );
    if state == "failed" {
        let reason = platform
            .sql("select diagnosis->>'cause' from deployments order by number desc limit 1")?;
        ensure!(!reason.trim().is_empty(), "failed without a reason");
    } else {
        let answer = wait::until("the new one to answer", Duration::from_secs(10), || {
            let answer = caller.call("version", &json!({}))?;
            Ok((answer
                .headers()
                .get("berth-commit")
                .context("no commit")?
                .to_str()?
                == commit)
                .then_some(answer))
        })?;
        ensure!(
            answer.text()?.contains(&format!("v{version}")),
            "the new code answers"
        );
    }
    settled_container(platform)?;
    Ok(())
}

/// An edge of its own, with the routes of before: what callers see who do not depend on the
/// killed process. It calls four times a second, and no call may fail.
struct Witness {
    edge: SpareEdge,
    stop: Arc<AtomicBool>,
    calls: std::thread::JoinHandle<(usize, Vec<String>)>,
}

impl Witness {
    fn start(platform: &Platform, caller: &Caller) -> Result<Self> {
        let edge = SpareEdge::start(platform)?;
        let caller = caller.through("killed", edge.port())?;
        wait::until("the second edge to serve", Duration::from_secs(10), || {
            let status = caller.call("version", &json!({}))?.status();
            Ok((status == 200).then_some(()))
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stop);
        let calls = std::thread::spawn(move || {
            let (mut served, mut failed) = (0, Vec::new());
            while !ends.load(Ordering::Relaxed) {
                match caller.call("version", &json!({})) {
                    Ok(answer) if answer.status() == 200 => served += 1,
                    other => failed.push(format!("{other:?}")),
                }
                std::thread::park_timeout(Duration::from_millis(250));
            }
            (served, failed)
        });
        Ok(Self { edge, stop, calls })
    }

    fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let (served, failed) = self.calls.join().expect("the calls do not panic");
        drop(self.edge);
        ensure!(served > 0, "the second edge served nothing");
        ensure!(
            failed.is_empty(),
            "the old one served throughout, {served} times but not: {failed:#?}"
        );
        Ok(())
    }
}

/// Waits until nothing but the live instance is left on the engine; answers its id.
fn settled_container(platform: &Platform) -> Result<String> {
    wait::until("only the live instance to be left", SETTLE, || {
        let containers = platform.containers()?;
        Ok((containers.len() == 1).then(|| containers[0].clone()))
    })
}

fn started_at(container: &str) -> Result<String> {
    let output = Command::new("docker")
        .args([
            "inspect",
            "--format",
            "{{.State.StartedAt}} {{.State.Running}}",
            "--",
            container,
        ])
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// The engine's events of one kind for this platform's instances.
struct Events(std::process::Child);

fn engine_events(platform: &Platform, kind: &str) -> Result<Events> {
    let label = format!("label=berth.installation={}", platform.installation()?);
    let child = Command::new("docker")
        .args([
            "events",
            "--filter",
            &format!("event={kind}"),
            "--filter",
            &label,
        ])
        .args(["--filter", "label=berth.role=instance"])
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(Events(child))
}

impl Events {
    fn next(&mut self) -> Result<()> {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().context("a pipe")?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "the engine's events ended");
        Ok(())
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for the moment to kill.
fn reach(platform: &Platform, point: Point, version: usize, created: &mut Events) -> Result<()> {
    let state = |wanted: &'static str| {
        wait::until(wanted, SETTLE, || {
            let state =
                platform.sql("select state from deployments order by number desc limit 1")?;
            Ok((state.trim() == wanted).then_some(()))
        })
    };
    match point {
        Point::Build => state("building"),
        Point::Start => created.next(),
        Point::Check => wait::until("the server to be probed", SETTLE, || {
            Ok(probed_marks(platform)?
                .contains(&format!("probed-v{version}"))
                .then_some(()))
        }),
        Point::Promote => state("live"),
    }
}

/// Names of the marks that the server left in its persistent directory.
fn probed_marks(platform: &Platform) -> Result<BTreeSet<String>> {
    fn walk(directory: &std::path::Path, depth: usize, names: &mut BTreeSet<String>) -> Result<()> {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && depth > 0 {
                walk(&entry.path(), depth - 1, names)?;
            } else {
                names.insert(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(())
    }
    let mut names = BTreeSet::new();
    for volumes in [
        platform.data().join("volumes"),
        platform.data().join("runner/volumes"),
    ] {
        if volumes.exists() {
            walk(&volumes, 2, &mut names)?;
        }
    }
    Ok(names)
}
