//! Each feature of the protocol that needs more than a request and its answer, through edge and
//! authorization with the official SDKs' clients.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::mcp::Caller;
use tests::{platform, python};

use crate::Test;
use crate::fixtures::{EVERYTHING, Fixture, LEGACY, MODERN};

pub const TESTS: &[Test] = &[
    ("features::r56_elicitation", || {
        legacy(
            "elicitation",
            &json!({ "text": "Hello, Ada!", "questions": ["What is your name?"] }),
        )
    }),
    ("features::r56_sampling", || {
        legacy(
            "sampling",
            &json!({ "text": "berth", "prompts": ["Say a word."] }),
        )
    }),
    ("features::r56_progress", || {
        let expected =
            json!({ "text": "worked", "progress": [[1.0, 3.0], [2.0, 3.0], [3.0, 3.0]] });
        legacy("progress", &expected)?;
        modern(&MODERN, "progress", &expected)
    }),
    ("features::r56_log", || {
        let expected = json!({ "text": "worked", "logs": ["step 1", "step 2", "step 3"] });
        legacy("log", &expected)?;
        modern(&MODERN, "log", &expected)
    }),
    ("features::r56_list_changed", || {
        legacy(
            "list_changed",
            &json!({ "before": false, "after": true, "text": "late" }),
        )
    }),
    ("features::r56_resumable_sse", || {
        legacy(
            "resumable_sse",
            &json!({ "text": "resumed", "logs": ["before", "after"], "resumed": ["GET"] }),
        )
    }),
    ("features::r56_mrtr", || {
        modern(
            &MODERN,
            "mrtr",
            &json!({ "text": "Hello, Ada!", "questions": ["What is your name?"], "calls": 2 }),
        )
    }),
    ("features::r56_subscriptions_listen", || {
        modern(
            &EVERYTHING,
            "subscriptions_listen",
            &json!({ "changed": true, "listens": 1 }),
        )
    }),
];

fn legacy(feature: &str, expected: &Value) -> Result<()> {
    let python = python::environment("client-mcp-1", &["mcp==1.30.0"])?;
    let program = Command::new(python);
    saw(
        &LEGACY,
        program,
        "legacy_feature.py",
        feature,
        "2025-11-25",
        expected,
    )
}

fn modern(server: &Fixture, feature: &str, expected: &Value) -> Result<()> {
    let python = python::environment("client-mcp-2", &["mcp==2.3.0"])?;
    let program = Command::new(python);
    saw(
        server,
        program,
        "modern_feature.py",
        feature,
        "2026-07-28",
        expected,
    )
}

fn saw(
    server: &Fixture,
    mut program: Command,
    script: &str,
    feature: &str,
    revision: &str,
    expected: &Value,
) -> Result<()> {
    let platform = platform::shared()?;
    server.deploy(&platform)?;
    let caller = Caller::new(&platform, server.project)?;
    let output = program
        .arg(python::client("python").join(script))
        .args([feature, &platform.mcp_url(server.project)])
        .env("TEST_ACCESS_TOKEN", caller.token())
        .output()?;
    ensure!(
        output.status.success(),
        "{feature}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let stdout = String::from_utf8(output.stdout)?;
    let saw: Value = serde_json::from_str(stdout.lines().last().context("no output")?)?;
    let mut expected = expected.clone();
    expected["revision"] = json!(revision);
    ensure!(saw == expected, "{feature}: {saw} is not {expected}");
    Ok(())
}
