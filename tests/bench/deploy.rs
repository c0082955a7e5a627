//! How long from an accepted push to the first answered `tools/list` on the new commit, beside what
//! people use instead, in one run on one machine:
//!
//! - **berth**: `POST …/deployments` has answered; then its build, its start, its promotion, and the
//!   call through the edge.
//! - **Dockerfile, pip**: `docker build` as people write it, layers cached as Docker does, and
//!   `docker run`.
//! - **Dockerfile, uv, cache mount**: the same with uv, bytecode compiled, and uv's cache kept in a
//!   `BuildKit` cache mount.
//! - **floor**: container start, import and first request alone: `docker run` of an image that is
//!   there, without what FastMCP shows and looks up when it starts.
//!
//! Four things are timed. A *first deploy, nothing cached*: Berth's stores are empty and uv's cache
//! mount is new; pip caches nothing between builds. A *first deploy of another project*: the
//! machine has deployed the same packages for a project before, so Berth has its shared wheels and
//! uv its cache mount; no layer and no environment can be used again. A *dependency change* adds a
//! package, a *code-only change* nothing. The base images are there for everyone.
//!
//! `cargo run -p tests --bin bench-deploy [RUNS]`, 6 runs by default, in changing order. Give it an
//! optimised berth: `TEST_BERTH=target/release/berth`. Compare ratios of one run of this program,
//! not figures of two machines.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::mcp::Caller;
use tests::platform::{Options, Platform};
use tests::repository::Repository;

/// A small server with the dependencies that such servers have.
const SERVER: &str = r#"
import httpx, pydantic
from fastmcp import FastMCP

mcp = FastMCP("bench")

@mcp.tool
def version() -> str:
    return "VERSION"

if __name__ == "__main__":
    mcp.run(transport="http", host="0.0.0.0", port=8000)
"#;

const REQUIREMENTS: &str = "fastmcp==4.1.2\nhttpx\npydantic\n";

/// The base of the images with pip, which the runtime image does not have.
const PIP_BASE: &str = "FROM berth/python:3.11
USER root
RUN [\"uv\", \"pip\", \"install\", \"--system\", \"--break-system-packages\", \"--no-cache\", \"pip\"]
";

const PIP: &str = "FROM BASE
WORKDIR /srv
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt
COPY requirements.txt .
RUN [\"python3\", \"-m\", \"pip\", \"install\", \"--quiet\", \"--no-cache-dir\", \"--break-system-packages\", \"-r\", \"requirements.txt\"]
COPY main.py .
ENV FASTMCP_CHECK_FOR_UPDATES=off
CMD [\"python3\", \"main.py\"]
";

const UV: &str = "FROM berth/python:3.11
USER root
WORKDIR /srv
ENV UV_LINK_MODE=copy
COPY requirements.txt .
RUN --mount=type=cache,id=CACHE,target=/root/.cache/uv [\"uv\", \"pip\", \"install\", \"--quiet\", \"--system\", \"--break-system-packages\", \"--compile-bytecode\", \"-r\", \"requirements.txt\"]
COPY main.py .
ENV FASTMCP_CHECK_FOR_UPDATES=off
CMD [\"python3\", \"main.py\"]
";

/// Nothing but what a server needs to answer.
const BARE: [&str; 3] = [
    "python3",
    "-c",
    "import main, uvicorn; uvicorn.run(main.mcp.http_app(), host='0.0.0.0', port=8000, log_level='error')",
];

const BERTH: &str = "berth";
const WITH_PIP: &str = "Dockerfile, pip";
const WITH_UV: &str = "Dockerfile, uv, cache mount";
const FLOOR: &str = "floor: start, import, first request";

const FIRST: &str = "first deploy, nothing cached";
const OTHER: &str = "first deploy of another project";
const DEPENDENCY: &str = "dependency change";
const CODE: &str = "code-only change";
const KINDS: [&str; 4] = [FIRST, OTHER, DEPENDENCY, CODE];

/// Where the peers' containers are reached; known before they are there.
const SUBNET: &str = "192.168.251.0/24";
const ADDRESS: &str = "192.168.251.20";

/// Longest that anything timed may take.
const LIMIT: Duration = Duration::from_mins(5);
/// Between two calls to what may not answer yet.
const AGAIN: Duration = Duration::from_millis(5);

/// Seconds by row and column.
type Samples = BTreeMap<(String, String), Vec<f64>>;

/// How long from an accepted push to the first answered call, beside Dockerfiles with pip and uv.
///
/// Needs what the tests need, and an optimised berth, which TEST_BERTH names.
#[derive(clap::Parser)]
#[command(name = "bench-deploy")]
struct Settings {
    /// Runs, in changing order; every figure is a median over them.
    #[arg(default_value_t = 6)]
    runs: usize,
}

fn main() -> Result<()> {
    let Settings { runs } = Settings::parse();
    let mut samples = Samples::new();
    let peers = Peers::new()?;
    // Kept to the end: ext4 is slow to make files for minutes after it has removed many.
    let mut platforms = Vec::new();
    for run in 0..runs {
        eprintln!("run {} of {runs}", run + 1);
        // Each in each place: what one leaves to the disk is felt by the next.
        for turn in 0..3 {
            match (run + turn) % 3 {
                0 => platforms.push(berth(&mut samples, run)?),
                1 => peers.with_uv(&mut samples, run)?,
                _ => peers.with_pip(&mut samples, run)?,
            }
        }
    }
    report(&samples, runs);
    Ok(())
}

/// The source of each kind of one run, never the same text twice.
fn sources(run: usize) -> [(String, String); 4] {
    let code = |n: usize| SERVER.replace("VERSION", &format!("run {run} version {n}"));
    let more = format!("{REQUIREMENTS}six==1.{}.0\n", 16 + run % 2);
    [
        (code(0), REQUIREMENTS.into()),
        (code(1), REQUIREMENTS.into()),
        (code(2), more.clone()),
        (code(3), more),
    ]
}

/// Each run has a platform of its own, whose stores are empty.
fn berth(samples: &mut Samples, run: usize) -> Result<Platform> {
    let platform = Platform::start(Options::default())?;
    for ((kind, (code, requirements)), project) in KINDS
        .iter()
        .zip(&sources(run))
        .zip(["one", "two", "two", "two"])
    {
        deploy(samples, &platform, project, kind, code, requirements)?;
    }
    platform.terminate()?;
    let mut down = Command::new(tests::berth_binary());
    output(down.args(["admin", "down", "--data"]).arg(platform.data()))?;
    Ok(platform)
}

fn deploy(
    samples: &mut Samples,
    platform: &Platform,
    project: &str,
    kind: &str,
    code: &str,
    requirements: &str,
) -> Result<()> {
    let repository = Repository::new(&[("main.py", code), ("requirements.txt", requirements)])?;
    let http = reqwest::blocking::Client::builder()
        .timeout(LIMIT)
        .build()?;
    let projects = format!("{}/api/v1/projects", platform.url());
    let token = platform.token()?;
    let source = json!({ "name": project, "source_url": repository.url() });
    let asked = if kind == FIRST || kind == OTHER {
        http.post(&projects).json(&source)
    } else {
        let source = json!({ "source_url": repository.url() });
        http.patch(format!("{projects}/{project}")).json(&source)
    };
    asked.bearer_auth(token).send()?.error_for_status()?;
    let caller = Caller::new(platform, project)?;
    let pushed = http
        .post(format!("{projects}/{project}/deployments"))
        .bearer_auth(token)
        .json(&json!({}))
        .send()?
        .error_for_status()?;
    let start = Instant::now();
    let pushed: Value = pushed.json()?;
    let deployment = format!("{projects}/{project}/deployments/{}", pushed["number"]);
    follow_to_its_end(
        &http,
        &format!("{deployment}/logs?stream=build&follow=1"),
        token,
    )?;
    let shown: Value = http.get(&deployment).bearer_auth(token).send()?.json()?;
    ensure!(shown["state"] == "live", "{shown}");
    let commit = shown["commit"].as_str().context("no commit")?;
    until_answered(start, || {
        let answer = caller.ask("tools/list", "", json!({}), &json!({})).ok()?;
        let is_new = answer
            .headers()
            .get("berth-commit")
            .is_some_and(|told| told == commit);
        (is_new && answer.status().is_success()).then_some(())
    })?;
    add(samples, BERTH, kind, start.elapsed());
    for timing in shown["timings"].as_array().into_iter().flatten() {
        let stage = timing["stage"].as_str().unwrap_or("?");
        let took = Duration::from_millis(timing["duration_ms"].as_u64().unwrap_or(0));
        add(samples, &format!("· {stage}"), kind, took);
    }
    Ok(())
}

/// Reads the build's log until the server says that it is over: nothing is asked again and again.
fn follow_to_its_end(http: &reqwest::blocking::Client, address: &str, token: &str) -> Result<()> {
    let log = http.get(address).bearer_auth(token).send()?;
    for line in BufReader::new(log.error_for_status()?).lines() {
        if line? == "event: end" {
            return Ok(());
        }
    }
    bail!("the log of {address} broke off")
}

/// What the peers have: a client that speaks to `BuildKit`, a network, a base image. All of it, and
/// the images, go at the end.
struct Peers {
    docker: &'static str,
    name: String,
}

impl Peers {
    fn new() -> Result<Self> {
        let name = format!("berth-bench-{}", uuid::Uuid::new_v4().simple());
        let scratch = TempDir::new()?;
        std::fs::write(
            scratch.path().join("Dockerfile"),
            "FROM scratch\nLABEL a=b\n",
        )?;
        // Newer clients need a plug-in for it, which is not everywhere.
        let docker = ["docker", "/usr/bin/docker"]
            .into_iter()
            .find(|docker| {
                let mut probe = Command::new(docker);
                probe.env("DOCKER_BUILDKIT", "1");
                output(probe.args(["build", "--quiet", "--"]).arg(scratch.path())).is_ok()
            })
            .context("no docker client here builds with BuildKit; install docker-buildx")?;
        let peers = Self { docker, name };
        peers.run(&["network", "create", "--subnet", SUBNET, "--", &peers.name])?;
        std::fs::write(scratch.path().join("Dockerfile"), PIP_BASE)?;
        peers.build(&format!("{}:base", peers.name), scratch.path(), "0", false)?;
        Ok(peers)
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        output(Command::new(self.docker).args(arguments))
    }

    fn build(&self, image: &str, directory: &Path, buildkit: &str, afresh: bool) -> Result<()> {
        let mut build = Command::new(self.docker);
        build.env("DOCKER_BUILDKIT", buildkit);
        build.args(["build", "--quiet", "--tag", image]);
        if afresh {
            build.arg("--no-cache");
        }
        output(build.arg("--").arg(directory)).map(drop)
    }

    fn with_uv(&self, samples: &mut Samples, run: usize) -> Result<()> {
        let dockerfile = UV.replace("CACHE", &format!("{}-{run}", self.name));
        self.deploy(samples, run, (WITH_UV, &dockerfile, "1"), &KINDS)?;
        let start = Instant::now();
        self.answer(&format!("{}:1-{run}", self.name), &BARE, start)?;
        add(samples, FLOOR, CODE, start.elapsed());
        Ok(())
    }

    fn with_pip(&self, samples: &mut Samples, run: usize) -> Result<()> {
        let dockerfile = PIP.replace("BASE", &format!("{}:base", self.name));
        let kinds = [FIRST, DEPENDENCY, CODE];
        self.deploy(samples, run, (WITH_PIP, &dockerfile, "0"), &kinds)?;
        // Another project finds nothing either.
        let again = samples[&(WITH_PIP.to_owned(), FIRST.to_owned())].clone();
        samples.insert((WITH_PIP.to_owned(), OTHER.to_owned()), again);
        Ok(())
    }

    fn deploy(
        &self,
        samples: &mut Samples,
        run: usize,
        (row, dockerfile, buildkit): (&str, &str, &str),
        kinds: &[&str],
    ) -> Result<()> {
        let directory = TempDir::new()?;
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("Dockerfile"), dockerfile)?;
        let image = format!("{}:{buildkit}-{run}", self.name);
        for (kind, (code, requirements)) in KINDS.iter().zip(&sources(run)) {
            if !kinds.contains(kind) {
                continue;
            }
            std::fs::write(path("main.py"), code)?;
            std::fs::write(path("requirements.txt"), requirements)?;
            let afresh = [FIRST, OTHER].contains(kind);
            let start = Instant::now();
            self.build(&image, directory.path(), buildkit, afresh)?;
            self.answer(&image, &[], start)?;
            add(samples, row, kind, start.elapsed());
        }
        Ok(())
    }

    /// Runs an image, or a program in it, to its first answered `tools/list`.
    fn answer(&self, image: &str, program: &[&str], start: Instant) -> Result<()> {
        let container = format!("{}-server", self.name);
        let mut command = Command::new(self.docker);
        command.args(["run", "--rm", "--name", &container, "--network", &self.name]);
        command.args(["--ip", ADDRESS, "--", image]).args(program);
        let mut running = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let answered = first_answer(&mut running, start);
        let took = start.elapsed();
        self.run(&["rm", "--force", "--", &container])?;
        running.wait()?;
        answered.with_context(|| format!("{image} after {took:?}"))
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        let format = "{{.Repository}}:{{.Tag}}";
        let images = self
            .run(&["images", "--format", format, "--", &self.name])
            .unwrap_or_default();
        let mut remove = vec!["image", "rm", "--"];
        remove.extend(images.lines());
        let network = self.run(&["network", "rm", "--", &self.name]);
        let removed = self.run(&remove).and(network);
        if let Err(error) = removed {
            eprintln!("cleaning up {}: {error}", self.name);
        }
    }
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn first_answer(running: &mut Child, start: Instant) -> Result<()> {
    let http = reqwest::blocking::Client::builder()
        .connect_timeout(Duration::from_millis(200))
        .build()?;
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/list",
        "params": { "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        } },
    });
    let mut ended = None;
    until_answered(start, || {
        ended = running.try_wait().ok().flatten();
        if ended.is_some() {
            return Some(());
        }
        let answer = http
            .post(format!("http://{ADDRESS}:8000/mcp"))
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/list")
            .json(&body)
            .send()
            .ok()?;
        answer.status().is_success().then_some(())
    })?;
    match ended {
        Some(status) => bail!("the container ended with {status}"),
        None => Ok(()),
    }
}

fn until_answered(start: Instant, mut ask: impl FnMut() -> Option<()>) -> Result<()> {
    while ask().is_none() {
        ensure!(start.elapsed() < LIMIT, "no answer in {LIMIT:?}");
        std::thread::park_timeout(AGAIN);
    }
    Ok(())
}

fn add(samples: &mut Samples, row: &str, column: &str, took: Duration) {
    samples
        .entry((row.to_owned(), column.to_owned()))
        .or_default()
        .push(took.as_secs_f64());
}

fn report(samples: &Samples, runs: usize) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("Seconds, median (min–max) of {runs} alternating runs on {cores} cores.\n");
    table(samples, &[BERTH, WITH_PIP, WITH_UV, FLOOR]);
    println!();
    let stages = [
        "· fetch",
        "· plan",
        "· resolve",
        "· install",
        "· compile",
        "· start",
        "· import",
        "· check",
    ];
    table(samples, &stages);
    println!("\n| of the medians | wanted | is |\n|---|---|---|");
    for (what, row, column, wanted) in [
        (
            "code only: berth ÷ floor",
            (FLOOR, CODE),
            CODE,
            Wanted::AtMost(1.25),
        ),
        (
            "code only: pip ÷ berth",
            (WITH_PIP, CODE),
            CODE,
            Wanted::AtLeast(1.0),
        ),
        (
            "dependency change: pip ÷ berth",
            (WITH_PIP, DEPENDENCY),
            DEPENDENCY,
            Wanted::AtLeast(2.5),
        ),
        (
            "first, nothing cached: pip ÷ berth",
            (WITH_PIP, FIRST),
            FIRST,
            Wanted::AtLeast(2.0),
        ),
        (
            "first of another project: pip ÷ berth",
            (WITH_PIP, OTHER),
            OTHER,
            Wanted::AtLeast(2.0),
        ),
        (
            "first, nothing cached: uv ÷ berth",
            (WITH_UV, FIRST),
            FIRST,
            Wanted::AtLeast(1.0),
        ),
        (
            "first of another project: uv ÷ berth",
            (WITH_UV, OTHER),
            OTHER,
            Wanted::AtLeast(1.0),
        ),
        (
            "dependency change: uv ÷ berth",
            (WITH_UV, DEPENDENCY),
            DEPENDENCY,
            Wanted::AtLeast(1.0),
        ),
        (
            "code only: uv ÷ berth",
            (WITH_UV, CODE),
            CODE,
            Wanted::AtLeast(1.0),
        ),
    ] {
        let of = |row: &str, column: &str| median(&samples[&(row.to_owned(), column.to_owned())]);
        let (theirs, ours) = (of(row.0, row.1), of(BERTH, column));
        let (text, ratio, holds) = match wanted {
            Wanted::AtMost(most) => (format!("≤ {most}"), ours / theirs, ours / theirs <= most),
            Wanted::AtLeast(least) => (format!("≥ {least}"), theirs / ours, theirs / ours >= least),
        };
        let verdict = if holds { "" } else { " – missed" };
        println!("| {what} | {text} | {ratio:.2}{verdict} |");
    }
}

/// What a ratio should be.
enum Wanted {
    /// Ours to theirs.
    AtMost(f64),
    /// Theirs to ours.
    AtLeast(f64),
}

fn table(samples: &Samples, rows: &[&str]) {
    println!("| | {} |", KINDS.join(" | "));
    println!("|---|{}", "---|".repeat(KINDS.len()));
    for row in rows {
        let cells: Vec<String> = KINDS
            .iter()
            .map(|kind| cell(samples.get(&((*row).to_owned(), (*kind).to_owned()))))
            .collect();
        println!(
            "| {} | {} |",
            row.trim_start_matches("· "),
            cells.join(" | ")
        );
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn cell(samples: Option<&Vec<f64>>) -> String {
    let Some(samples) = samples.filter(|s| !s.is_empty()) else {
        return "–".to_owned();
    };
    let (min, max) = samples.iter().fold((f64::MAX, f64::MIN), |(min, max), s| {
        (min.min(*s), max.max(*s))
    });
    format!("{:.2} ({min:.2}–{max:.2})", median(samples))
}
