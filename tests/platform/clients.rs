//! Real clients go the whole way: discovery, registration, sign-in and consent in a real browser,
//! then every kind of traffic, a renewed token, and a redeploy in between.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tests::client::{Flow, Steps};
use tests::{node, platform, python};

use crate::Test;
use crate::fixtures::{Fixture, LEGACY, MODERN};

pub const TESTS: &[Test] = &[
    (
        "clients::without_a_token_the_answer_leads_to_authorization",
        challenge,
    ),
    ("clients::r37_fastmcp_2_14_7", || {
        fastmcp("2", "2.14.7", &SESSIONS)
    }),
    ("clients::r37_fastmcp_3_4_10", || {
        fastmcp("3", "3.4.10", &SESSIONS)
    }),
    ("clients::r37_fastmcp_4_1_2", || {
        fastmcp("4", "4.1.2", &SESSIONLESS)
    }),
    ("clients::r37_python_sdk_1_30_0", || {
        let python = python::environment("client-mcp-1", &["mcp==1.30.0"])?;
        whole_flow(&SESSIONS, "mcp 1.30.0", &mut script(python, "sdk1_flow.py"))
    }),
    ("clients::r37_python_sdk_2_3_0", || {
        let python = python::environment("client-mcp-2", &["mcp==2.3.0"])?;
        whole_flow(
            &SESSIONLESS,
            "mcp 2.3.0",
            &mut script(python, "sdk2_flow.py"),
        )
    }),
    ("clients::r37_typescript_sdk_1_32", || {
        let name = "@modelcontextprotocol/sdk 1.32.2";
        whole_flow(&SESSIONS, name, &mut node::client("sdk1_flow.mjs")?)
    }),
    ("clients::r37_typescript_sdk_2_4", || {
        let name = "@modelcontextprotocol/client 2.4.0";
        whole_flow(&SESSIONLESS, name, &mut node::client("sdk2_flow.mjs")?)
    }),
    ("clients::r37_rmcp", || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_client-rmcp"));
        whole_flow(&RUST, "rmcp 3.11.0", &mut command)
    }),
    ("clients::r37_mcp_remote", || {
        whole_flow(
            &SESSIONS,
            "mcp-remote 0.15.1",
            &mut node::client("remote_flow.mjs")?,
        )
    }),
    ("clients::r37_inspector", || {
        let name = "@modelcontextprotocol/inspector 2.12.0";
        whole_flow(
            &ONE_SESSION_PER_CALL,
            name,
            &mut node::client("inspector_flow.mjs")?,
        )
    }),
];

/// The steps in their order.
const STEPS: &[&str] = &[
    "connect",
    "list",
    "call",
    "notifications",
    "input",
    "refresh",
    "step_up",
    "redeploy",
];

/// What can be expected of a client.
struct Kind {
    server: &'static Fixture,
    tools: &'static [&'static str],
    /// Whether its last call, after the redeploy, belongs to a session on the instance before.
    stays: bool,
    /// Whether it shows notifications and can answer questions.
    interactive: bool,
    /// Whether it asks for more than the one scope, and by itself again for a missing one.
    steps_up: bool,
}

const LEGACY_TOOLS: &[&str] = &["add", "ask", "commit", "grow", "hang_up", "sample", "work"];

/// Speaks a handshake revision and keeps its session.
const SESSIONS: Kind = Kind {
    server: &LEGACY,
    tools: LEGACY_TOOLS,
    stays: true,
    interactive: true,
    steps_up: false,
};

/// Starts anew for every call, and prints results alone.
const ONE_SESSION_PER_CALL: Kind = Kind {
    stays: false,
    interactive: false,
    ..SESSIONS
};

/// Speaks 2026-07-28.
const SESSIONLESS: Kind = Kind {
    server: &MODERN,
    tools: &["add", "ask", "commit", "work"],
    stays: false,
    interactive: true,
    steps_up: true,
};

/// The same; what to do about a missing scope is left to the program that uses it.
const RUST: Kind = Kind {
    steps_up: false,
    ..SESSIONLESS
};

/// A row for every client that ran.
static MATRIX: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Prints what every client that ran came through.
pub fn print_matrix() {
    let matrix = MATRIX.lock().unwrap_or_else(PoisonError::into_inner);
    if matrix.is_empty() {
        return;
    }
    println!("\n| client | {} |", STEPS.join(" | ").replace('_', " "));
    println!("|---|{}", "---|".repeat(STEPS.len()));
    for row in matrix.iter() {
        println!("{row}");
    }
}

fn script(python: std::path::PathBuf, name: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(python::client("python").join(name));
    command
}

fn fastmcp(major: &str, version: &str, kind: &Kind) -> Result<()> {
    let name = format!("client-fastmcp-{major}");
    let python = python::environment(&name, &[&format!("fastmcp=={version}")])?;
    let name = format!("fastmcp {version}");
    whole_flow(kind, &name, &mut script(python, "fastmcp_flow.py"))
}

fn whole_flow(kind: &Kind, name: &str, command: &mut Command) -> Result<()> {
    let platform = platform::shared()?;
    kind.server.deploy(&platform)?;
    let mut flow = Flow::start(command.arg(platform.mcp_url(kind.server.project)))?;
    let ran = flow.run(&platform, || kind.server.redeploy(&platform));
    let (mut cells, mut wrong) = (Vec::new(), Vec::new());
    for &step in STEPS {
        cells.push(
            judge(kind, name, step, &flow.steps).unwrap_or_else(|error| {
                wrong.push(format!("{step}: {error:#}"));
                "FAILED"
            }),
        );
    }
    let row = format!("| {name} | {} |", cells.join(" | "));
    let mut matrix = MATRIX.lock().unwrap_or_else(PoisonError::into_inner);
    matrix.insert(row.clone());
    drop(matrix);
    ran?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let manual = std::fs::read_to_string(tests::root().join("docs/clients.md"))?;
    ensure!(manual.contains(&row), "docs/clients.md does not say {row}");
    Ok(())
}

/// Whether what the client saw at a step is right; a word for the matrix.
fn judge(kind: &Kind, name: &str, step: &str, steps: &Steps) -> Result<&'static str> {
    if (step == "input" && !kind.interactive) || (step == "step_up" && !kind.steps_up) {
        return Ok("–");
    }
    let saw = steps.get(step).context("not reached")?;
    let expected = match step {
        "connect" => json!({ "client": name }),
        "list" => json!({ "tools": kind.tools }),
        "call" => json!({ "text": "42" }),
        "notifications" if kind.interactive => json!({
            "text": "worked",
            "progress": [[1, 3], [2, 3], [3, 3]],
            "logs": ["step 1", "step 2", "step 3"],
        }),
        "notifications" => json!({ "text": "worked" }),
        "input" => json!({ "text": "Hello, Ada!" }),
        "refresh" => json!({ "text": "2", "renewed": true }),
        "step_up" => json!({ "text": "4", "renewed": true }),
        "redeploy" => return redeployed(kind, saw),
        other => bail!("there is no step {other}"),
    };
    for (member, expected) in expected.as_object().context("members")? {
        let seen = whole_numbers(&saw[member]);
        ensure!(seen == *expected, "{member} is {seen}, not {expected}");
    }
    Ok(if kind.interactive || step != "notifications" {
        "yes"
    } else {
        "passed over"
    })
}

fn redeployed(kind: &Kind, saw: &Value) -> Result<&'static str> {
    let (before, after) = (&saw["before"], &saw["after"]);
    ensure!(before.is_string() && after.is_string(), "{saw}");
    ensure!(
        (before == after) == kind.stays,
        "the call after the redeploy was answered by {after}, the one before by {before}"
    );
    Ok(if kind.stays { "stays" } else { "goes on" })
}

/// Some clients write 3.0 for 3.
fn whole_numbers(value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(whole_numbers).collect(),
        Value::Number(number) => number
            .as_f64()
            .filter(|number| number.fract() == 0.0)
            .map_or_else(
                || value.clone(),
                #[expect(clippy::cast_possible_truncation, reason = "counts up to three")]
                |number| json!(number as i64),
            ),
        other => other.clone(),
    }
}

fn challenge() -> Result<()> {
    let platform = platform::shared()?;
    MODERN.deploy(&platform)?;
    let http = reqwest::blocking::Client::builder()
        .resolve(
            &format!("{}.localhost", MODERN.project),
            ([127, 0, 0, 1], platform.port()).into(),
        )
        .build()?;
    let answer = http
        .post(platform.mcp_url(MODERN.project))
        .body("{}")
        .send()?;
    ensure!(answer.status() == 401, "{answer:?}");
    let challenge = answer.headers()["www-authenticate"].to_str()?.to_owned();
    let metadata = format!(
        "http://{}.localhost:{}/.well-known/oauth-protected-resource/mcp",
        MODERN.project,
        platform.port()
    );
    ensure!(
        challenge == format!(r#"Bearer resource_metadata="{metadata}", scope="mcp""#),
        "RFC 9728 section 5.1, RFC 6750 section 3.1: {challenge}"
    );
    let resource: Value = http.get(&metadata).send()?.error_for_status()?.json()?;
    ensure!(
        resource["resource"] == platform.mcp_url(MODERN.project),
        "{resource}"
    );
    let issuer = resource["authorization_servers"][0]
        .as_str()
        .context("no authorization server")?;
    ensure!(issuer == platform.url(), "{resource}");
    let server: Value = http
        .get(format!("{issuer}/.well-known/oauth-authorization-server"))
        .send()?
        .error_for_status()?
        .json()?;
    ensure!(server["issuer"] == issuer, "{server}");
    ensure!(
        server["code_challenge_methods_supported"] == json!(["S256"]),
        "{server}"
    );
    // A token that is no token says so.
    let answer = http
        .post(platform.mcp_url(MODERN.project))
        .bearer_auth("nonsense")
        .body("{}")
        .send()?;
    ensure!(answer.status() == 401, "{answer:?}");
    let challenge = answer.headers()["www-authenticate"].to_str()?.to_owned();
    ensure!(
        challenge.contains(r#"error="invalid_token""#),
        "{challenge}"
    );
    Ok(())
}
