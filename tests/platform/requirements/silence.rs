//! R4: neither a silent stream nor a silent call is ended on its way. Takes an hour.

use std::io::{BufRead as _, BufReader};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tests::platform::{Options, Platform};

use super::Echo;
use super::gateway::SOON;
use crate::Test;

/// Run by `tests/run --long` alone.
pub const TESTS: &[Test] = &[("r04_an_hour_of_silence_ends_nothing", r04)];

/// How long the stream says nothing but comments.
const STREAM: Duration = Duration::from_hours(1);

/// Between two of its comments: the interval of the Python SDK's servers.
const COMMENT: Duration = Duration::from_secs(15);

/// How long the call says nothing at all: as long as the Python SDK waits.
const CALL: Duration = Duration::from_mins(5);

/// Tokens end after an hour, and the stream outlives its own: who was let in stays.
fn r04() -> Result<()> {
    // One of its own, which no other test stops meanwhile.
    let platform = Arc::new(Platform::start(Options::default())?);
    let mut echo = Echo::deploy(platform, "r04", &super::repository()?)?;
    // The test's own client must not be the one to give up.
    echo.http = reqwest::blocking::Client::builder()
        .resolve(
            "r04.localhost",
            ([127, 0, 0, 1], echo.platform.port()).into(),
        )
        .timeout(None)
        .build()?;
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| silent_stream(&echo));
        let call = scope.spawn(|| silent_call(&echo));
        let call = call.join().expect("no panic").context("the silent call");
        let stream = stream
            .join()
            .expect("no panic")
            .context("the silent stream");
        call.and(stream)
    })
}

fn silent_stream(echo: &Echo) -> Result<()> {
    let began = Instant::now();
    let behaviour = format!("murmur:{}", STREAM.as_secs());
    let answer = echo.request(Method::GET, "/mcp", &behaviour).send()?;
    ensure!(answer.status() == 200, "{answer:?}");
    let (mut comments, mut last) = (0, Instant::now());
    for line in BufReader::new(answer).lines() {
        let line = line.with_context(|| format!("after {comments} comments"))?;
        if line == ": ping" {
            ensure!(last.elapsed() < COMMENT + SOON, "a comment was held back");
            (comments, last) = (comments + 1, Instant::now());
        } else if !line.is_empty() {
            ensure!(line == "data: still here", "{line}");
            ensure!(began.elapsed() >= STREAM, "it ended too soon");
            ensure!(
                comments >= STREAM.as_secs() / COMMENT.as_secs() - 10,
                "{comments}"
            );
            return Ok(());
        }
    }
    anyhow::bail!(
        "it ended after {comments} comments, {} s",
        began.elapsed().as_secs()
    )
}

fn silent_call(echo: &Echo) -> Result<()> {
    let began = Instant::now();
    let answer = echo
        .post(&format!("silence:{}", CALL.as_secs()))
        .json(&json!({ "jsonrpc": "2.0", "id": 4, "method": "x" }))
        .send()?;
    ensure!(answer.status() == 200, "{answer:?}");
    let answer: Value = answer.json()?;
    ensure!(answer["silent"] == CALL.as_secs(), "{answer}");
    ensure!(began.elapsed() >= CALL, "it was answered too soon");
    Ok(())
}
