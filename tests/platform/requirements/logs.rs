//! R53: logs are lines, live, searchable, without secrets, and no flood reaches the host.

use std::io::{BufRead as _, BufReader};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::mcp::Caller;
use tests::platform::{Options, Platform};
use tests::repository::Repository;
use tests::wait;

use crate::Test;

pub const TESTS: &[Test] = &[(
    "r53_logs_are_lines_without_secrets_and_no_flood_reaches_the_host",
    logs_are_lines_without_secrets_and_no_flood_reaches_the_host,
)];

/// A server that prints all that it should not.
const NOISY: &str = r#"
import base64, json, os, sys
from urllib.parse import quote
from fastmcp import FastMCP

secret = os.environ["API_KEY"]
out = sys.stdout.buffer

def write(data):
    out.write(data + b"\n")
    out.flush()

write(b"plain " + secret.encode())
write(b"base64 " + base64.b64encode(secret.encode()))
write(b"basic " + base64.b64encode(b"user:" + secret.encode()))
write(b"url " + quote(secret, safe="").encode())
write(b"json " + json.dumps({"key": secret}).encode())
write(b"hex " + secret.encode().hex().encode())
write(b"\x1b[31mred\x1b[0m \xff end")
write(b"long " + b"z" * 1_000_000)

mcp = FastMCP("noisy")

@mcp.tool
def say(text: str) -> str:
    write(text.encode())
    return "said"

@mcp.tool
def flood(lines: int) -> str:
    out.write(b"\n" * lines)
    out.flush()
    return "done"

@mcp.tool
def reach() -> str:
    try:
        os.close(os.open("/proc/1/fd/1", os.O_WRONLY))
        return "reached"
    except OSError as error:
        return type(error).__name__
"#;

/// With characters that every encoding writes in another way.
const SECRET: &str = "sk-\u{fc}nit/canary \"key\"+1";

fn logs_are_lines_without_secrets_and_no_flood_reaches_the_host() -> Result<()> {
    let platform = Platform::start(Options::default())?;
    let repository =
        Repository::new(&[("main.py", NOISY), ("requirements.txt", "fastmcp==4.1.2\n")])?;
    let http = reqwest::blocking::Client::builder().timeout(None).build()?;
    http.post(format!("{}/api/v1/projects", platform.url()))
        .bearer_auth(platform.token()?)
        .json(&json!({ "name": "noisy", "source_url": repository.url() }))
        .send()?
        .error_for_status()?;
    let file = platform.data().join("variables.env");
    std::fs::write(&file, format!("API_KEY={SECRET}\n"))?;
    platform
        .berth(&["env", "noisy", "import", &file.to_string_lossy()])?
        .success()?;
    std::fs::remove_file(&file)?;
    let live = platform.deploy_live("noisy", &repository.url(), &[])?;
    let deployment = live["deployment"].as_str().context("no deployment")?;
    let caller = Caller::new(&platform, "noisy")?;
    let call = |tool: &str, arguments: &Value| -> Result<String> {
        Ok(caller.call(tool, arguments)?.error_for_status()?.text()?)
    };

    let log = wait::until(
        "the long line to arrive",
        std::time::Duration::from_secs(20),
        || {
            let log = platform.berth(&["logs", "noisy"])?.success()?.stdout;
            Ok(log.contains("(line cut)").then_some(log))
        },
    )?;
    for name in ["plain", "base64", "basic", "url", "json", "hex"] {
        let line = log
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))
            .with_context(|| format!("no line {name}: {log}"))?;
        ensure!(line.contains("•••"), "{line}");
        for part in ["canary", "Y2FuYX", "NhbmFye", "jYW5hcn", "63616e617279"] {
            ensure!(!line.contains(part), "{name} shows a part: {line}");
        }
    }
    ensure!(log.contains("red \u{fffd} end"), "{log}");
    let longest = log.lines().map(str::len).max().unwrap_or(0);
    ensure!(longest <= 16 * 1024, "{longest}");

    let found = platform
        .berth(&["logs", "noisy", "--grep", "RED"])?
        .success()?
        .stdout;
    ensure!(found.trim_end() == "red \u{fffd} end", "{found}");

    // Live, and only what is searched for.
    let address = format!(
        "{}/api/v1/projects/noisy/deployments/{deployment}/logs?stream=instance&follow=1&q=marker",
        platform.url()
    );
    let stream = http
        .get(address)
        .bearer_auth(platform.token()?)
        .send()?
        .error_for_status()?;
    call("say", &json!({ "text": "not this" }))?;
    call("say", &json!({ "text": "a marker" }))?;
    let line = BufReader::new(stream)
        .lines()
        .find(|line| {
            line.as_ref()
                .map_or(true, |line| line.contains("\"text\":"))
        })
        .context("the stream ended")??;
    ensure!(line.contains("a marker"), "{line}");

    // A flood is left out where it arises, and the server does not wait.
    ensure!(call("flood", &json!({ "lines": 500_000 }))?.contains("done"));
    wait::until(
        "the flood to be counted",
        std::time::Duration::from_secs(20),
        || {
            let told = platform
                .berth(&["logs", "noisy", "--grep", "left out: the program"])?
                .success()?
                .stdout;
            let counts = told
                .lines()
                .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok());
            Ok((counts.sum::<u64>() > 480_000).then_some(()))
        },
    )?;
    ensure!(call("reach", &json!({}))?.contains("PermissionError"));
    Ok(())
}
