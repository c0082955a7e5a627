//! How long from `berth deploy` to the first answered call, beside a `docker build` of the same
//! server: first deploy, a changed dependency, a change of code alone; and where Berth's time goes.
//!
//! `cargo run -p tests --bin bench-deploy [RUNS]`, 5 runs by default, alternating. Give it an
//! optimised berth: `TEST_BERTH=target/release/berth`. Every figure is a median with its range;
//! compare ratios of one run of this program, not figures of two machines.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::mcp::Caller;
use tests::platform::{Options, Platform};
use tests::repository::Repository;
use tests::wait;

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

/// What people write today. uv, because it is the fast way.
const DOCKERFILE: &str = "FROM berth/python:3.11
USER root
WORKDIR /srv
COPY requirements.txt .
RUN [\"uv\", \"pip\", \"install\", \"--system\", \"--break-system-packages\", \"--compile-bytecode\", \"-r\", \"requirements.txt\"]
COPY main.py .
ENV FASTMCP_CHECK_FOR_UPDATES=off
CMD [\"python3\", \"main.py\"]
";

const KINDS: [&str; 3] = ["first deploy", "dependency change", "code-only change"];

/// Seconds by row and column.
type Samples = BTreeMap<(String, String), Vec<f64>>;

fn main() -> Result<()> {
    let runs: usize = std::env::args()
        .nth(1)
        .map_or(Ok(5), |n| n.parse())
        .context("RUNS is a number")?;
    let mut samples = Samples::new();
    for run in 0..runs {
        eprintln!("run {} of {runs}", run + 1);
        berth(&mut samples, run)?;
        docker_build(&mut samples, run)?;
    }
    report(&samples, runs);
    Ok(())
}

/// The three sources of one run, never the same text twice.
fn sources(run: usize) -> [(String, String); 3] {
    let code = |n: usize| SERVER.replace("VERSION", &format!("run {run} version {n}"));
    let more = format!("{REQUIREMENTS}six==1.{}.0\n", 16 + run % 2);
    [
        (code(0), REQUIREMENTS.into()),
        (code(1), more.clone()),
        (code(2), more),
    ]
}

fn berth(samples: &mut Samples, run: usize) -> Result<()> {
    // A platform of its own: the first deploy finds empty stores.
    let platform = Platform::start(Options::default())?;
    let sources = sources(run);
    let repository = Repository::new(&[
        ("main.py", &sources[0].0),
        ("requirements.txt", &sources[0].1),
    ])?;
    for (kind, (code, requirements)) in KINDS.iter().zip(&sources) {
        let commit = repository.commit(&[("main.py", code), ("requirements.txt", requirements)])?;
        let start = Instant::now();
        let done = platform.deploy_live("bench", &repository.url(), &[])?;
        let caller = Caller::new(&platform, "bench")?;
        wait::until("the new version to answer", Duration::from_secs(10), || {
            let answer = caller.call("version", &json!({}))?;
            Ok((answer
                .headers()
                .get("berth-commit")
                .is_some_and(|c| c == commit.as_str()))
            .then_some(()))
        })?;
        add(samples, "berth, push to answer", kind, start.elapsed());
        let shown = platform
            .berth(&["deployments", "bench", "--json"])?
            .success()?
            .json()?;
        let newest = newest_of(&shown, &done).context("the deployment is listed")?;
        for timing in newest["timings"].as_array().into_iter().flatten() {
            let stage = timing["stage"].as_str().unwrap_or("?");
            let took = Duration::from_millis(timing["duration_ms"].as_u64().unwrap_or(0));
            add(samples, &format!("· {stage}"), kind, took);
        }
    }
    Ok(())
}

fn newest_of(shown: &Value, done: &Value) -> Option<Value> {
    let list = shown
        .as_array()
        .or_else(|| shown["deployments"].as_array())?;
    list.iter()
        .find(|d| d["id"] == done["deployment"] || d["number"] == done["deployment"])
        .or_else(|| list.first())
        .cloned()
}

fn docker_build(samples: &mut Samples, run: usize) -> Result<()> {
    let directory = tempfile::TempDir::new()?;
    let image = format!("berth-bench-{}", uuid::Uuid::new_v4().simple());
    std::fs::write(directory.path().join("Dockerfile"), DOCKERFILE)?;
    for (kind, (code, requirements)) in KINDS.iter().zip(&sources(run)) {
        std::fs::write(directory.path().join("main.py"), code)?;
        std::fs::write(directory.path().join("requirements.txt"), requirements)?;
        let start = Instant::now();
        let mut build = Command::new("docker");
        build.args(["build", "--quiet", "--tag", &image]);
        if *kind == KINDS[0] {
            build.arg("--no-cache");
        }
        docker(build.arg("--").arg(directory.path()))?;
        let container = docker(Command::new("docker").args(["run", "--detach", "--", &image]))?;
        let answered = first_answer(&container);
        let took = start.elapsed();
        docker(Command::new("docker").args(["rm", "--force", "--", &container]))?;
        answered?;
        add(samples, "docker build and run", kind, took);
    }
    docker(Command::new("docker").args(["image", "rm", "--force", "--", &image]))?;
    Ok(())
}

fn docker(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::piped()).output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Waits for the first answered `tools/list` at the container's address.
fn first_answer(container: &str) -> Result<()> {
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address =
        docker(Command::new("docker").args(["inspect", "--format", format, "--", container]))?;
    let http = reqwest::blocking::Client::new();
    wait::until("the container to answer", Duration::from_mins(1), || {
        let answer = http
            .post(format!("http://{address}:8000/mcp"))
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/list")
            .json(&json!({
                "jsonrpc": "2.0", "id": 1, "method": "tools/list",
                "params": { "_meta": {
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientCapabilities": {},
                } },
            }))
            .send()?;
        Ok(answer.status().is_success().then_some(()))
    })
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
    println!("| | {} |", KINDS.join(" | "));
    println!("|---|{}", "---|".repeat(KINDS.len()));
    let mut rows: Vec<&String> = samples.keys().map(|(row, _)| row).collect();
    rows.dedup();
    rows.sort_by_key(|row| row.starts_with('·'));
    for row in rows {
        let cells: Vec<String> = KINDS
            .iter()
            .map(|kind| cell(samples.get(&(row.clone(), (*kind).to_owned()))))
            .collect();
        println!("| {row} | {} |", cells.join(" | "));
    }
    let ratios: Vec<String> = KINDS
        .iter()
        .map(|kind| {
            let of = |row: &str| {
                samples
                    .get(&(row.to_owned(), (*kind).to_owned()))
                    .map(|s| median(s))
            };
            match (of("berth, push to answer"), of("docker build and run")) {
                (Some(ours), Some(theirs)) => format!("{:.2}", ours / theirs),
                _ => "–".to_owned(),
            }
        })
        .collect();
    println!("| **ratio** | {} |", ratios.join(" | "));
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
