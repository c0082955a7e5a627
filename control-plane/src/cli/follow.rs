//! Follows a deployment to its end, with its build log.

use std::io::{IsTerminal as _, stderr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{Stream, StreamExt as _};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::client::{Client, path};
use super::output::{Output, note, short, text};
use crate::deployments::HELD_FOR_PROMOTION;

/// How long a server may be away, being restarted perhaps, before we stop waiting for it.
const AWAY_LIMIT: Duration = Duration::from_mins(2);

/// Between two tries to reach it.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How long we wait, once it is live, for every edge to know: more than an edge takes unless it is
/// in trouble, and then the deployment is live all the same.
const SERVED_LIMIT: Duration = Duration::from_secs(15);

/// Between two looks at whether they do; edges say so within a fraction of a second.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// States before an end (see the deployment's life in the server).
const PENDING: [&str; 4] = ["queued", "building", "starting", "checking"];

/// One server-sent event (WHATWG HTML, section 9.2).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its data, lines joined by newlines.
    pub data: String,
}

/// Reads the events of a response until it ends.
pub fn events(response: Response) -> impl Stream<Item = anyhow::Result<Event>> {
    let chunks = response
        .bytes_stream()
        .map(|chunk| chunk.context("the stream broke off"));
    let parser = (Box::pin(chunks), Parser::default());
    futures_util::stream::unfold(Some(parser), |state| async {
        let (mut chunks, mut parser) = state?;
        loop {
            if let Some(event) = parser.next() {
                return Some((Ok(event), Some((chunks, parser))));
            }
            match chunks.next().await {
                Some(Ok(chunk)) => parser.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => return Some((Err(error), None)),
                None => return None,
            }
        }
    })
}

#[derive(Debug, Default)]
struct Parser {
    buffer: Vec<u8>,
    event: Event,
}

impl Parser {
    /// The next whole event in the buffer.
    fn next(&mut self) -> Option<Event> {
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if event != Event::default() {
                    return Some(event);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.event.name),
                "data" => {
                    if !self.event.data.is_empty() {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(value);
                }
                _ => {}
            }
        }
        None
    }
}

/// Follows a deployment until it is live, and calls reach it, or it has failed; answers it as it
/// then is.
pub async fn follow(client: &Client, project: &str, number: &str) -> anyhow::Result<Value> {
    let progress = Progress::new();
    let mut after = 0;
    let mut last_answer = Instant::now();
    loop {
        match follow_once(client, project, number, &mut after, &progress).await {
            Ok(()) => {
                let deployment = client
                    .get(&path(&["projects", project, "deployments", number]))
                    .await;
                match deployment {
                    Ok(deployment) if !PENDING.contains(&text(&deployment, "state")) => {
                        let deployment = until_served(client, project, deployment).await;
                        progress.finish();
                        return Ok(deployment);
                    }
                    Ok(_) => last_answer = Instant::now(),
                    Err(error) => give_up(error, last_answer)?,
                }
            }
            Err(error) => give_up(error, last_answer)?,
        }
        sleep(TRY_AGAIN).await;
    }
}

/// Waits for the edges to know of a live deployment, for [`SERVED_LIMIT`] at the most, so that the
/// next call reaches it.
async fn until_served(client: &Client, project: &str, mut deployment: Value) -> Value {
    let address = path(&["projects", project, "deployments", text(&deployment, "id")]);
    let began = Instant::now();
    while is_awaited(&deployment) && began.elapsed() < SERVED_LIMIT {
        sleep(LOOK_AGAIN).await;
        // While the server is away the deployment is still what it was.
        if let Ok(now) = client.get(&address).await {
            deployment = now;
        }
    }
    deployment
}

/// Whether it is live and some edge does not know yet. An older server does not say.
fn is_awaited(deployment: &Value) -> bool {
    deployment["state"] == "live" && deployment["served"] == false
}

/// An error that another try will not mend, or that has lasted too long.
fn give_up(error: anyhow::Error, last_answer: Instant) -> anyhow::Result<()> {
    let lasting = error.downcast_ref::<super::exit::Failure>().is_some();
    if lasting || last_answer.elapsed() > AWAY_LIMIT {
        Err(error)
    } else {
        Ok(())
    }
}

async fn follow_once(
    client: &Client,
    project: &str,
    number: &str,
    after: &mut i64,
    progress: &Progress,
) -> anyhow::Result<()> {
    let address = path(&["projects", project, "deployments", number, "logs"]);
    let address = format!("{address}?stream=build&follow=1&after={after}");
    let mut events = Box::pin(events(client.follow(&address).await?));
    while let Some(event) = events.next().await {
        let event = event?;
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        match event.name.as_str() {
            "line" => {
                *after = data["sequence"].as_i64().unwrap_or(*after);
                progress.line(text(&data, "text"));
            }
            "state" => progress.state(text(&data, "state")),
            "end" => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

/// A line that moves on a terminal; plain lines elsewhere.
#[derive(Debug)]
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// Nothing is shown before the first word.
    pub fn new() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self(bar)
    }

    /// A line of output.
    pub fn line(&self, line: &str) {
        match &self.0 {
            Some(bar) => bar.println(line),
            None => note(line),
        }
    }

    /// What is going on now.
    pub fn state(&self, state: &str) {
        match &self.0 {
            Some(bar) => bar.set_message(state.to_owned()),
            None => note(&format!("[{state}]")),
        }
    }

    /// Clears the moving line.
    pub fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Prints a deployment as `deploy`, `promote` and `rollback` do; failing if it failed, or is held.
pub fn report(deployment: &Value, output: Output) -> ExitCode {
    let document = json!({
        "project": deployment["project"],
        "deployment": deployment["id"],
        "number": deployment["number"],
        "state": deployment["state"],
        "url": deployment["url"],
        "commit": deployment["commit"],
        "diagnosis": deployment["diagnosis"],
        "missing_variables": deployment["missing_variables"],
    });
    output.result(&document, || summary(deployment));
    match text(deployment, "state") {
        "failed" | "canceled" | "held" => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn summary(deployment: &Value) -> String {
    let name = format!(
        "{} deployment {}",
        text(deployment, "project"),
        deployment["number"]
    );
    let commit = short(text(deployment, "commit"));
    match text(deployment, "state") {
        "failed" => {
            failure(&name, &deployment["diagnosis"]) + &unset(deployment).unwrap_or_default()
        }
        "canceled" => format!("{name} was canceled."),
        "held" => held(deployment, &name),
        "live" => format!("{name} is live ({commit}) at {}", text(deployment, "url")),
        state if PENDING.contains(&state) => format!("{name} is {state}."),
        state => format!("{name} was live and is {state}; a newer one has replaced it."),
    }
}

/// It answers and waits: what to do.
fn held(deployment: &Value, name: &str) -> String {
    let (project, number) = (text(deployment, "project"), &deployment["number"]);
    let why = if deployment["held_for"] == HELD_FOR_PROMOTION {
        "it answers, and waits because pushes to this project are promoted by hand"
    } else {
        "it answers, but would break callers of what is live"
    };
    format!(
        "{name} is held: {why}.\n  \
         See:     berth diff {project} {number}\n  \
         Promote: berth promote {project} {number}\n  \
         Cancel:  berth cancel {project} {number}"
    )
}

fn failure(name: &str, diagnosis: &Value) -> String {
    let mut lines = vec![format!("{name} failed.")];
    for (label, member) in [
        ("Cause", "cause"),
        ("Where", "location"),
        ("Fix", "fix"),
        ("More", "page"),
    ] {
        if let Some(sentence) = diagnosis[member].as_str() {
            lines.push(format!("  {label}: {sentence}"));
        }
    }
    lines.join("\n")
}

/// What a failed deployment's code reads and nobody has set.
fn unset(deployment: &Value) -> Option<String> {
    let missing = deployment["missing_variables"].as_array()?;
    let names: Vec<&str> = missing.iter().filter_map(Value::as_str).collect();
    (!names.is_empty()).then(|| {
        format!(
            "\n  Not set: {} (`berth env {} set …`)",
            names.join(", "),
            text(deployment, "project")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_across_chunks() {
        let mut parser = Parser::default();
        parser.buffer.extend_from_slice(b": hello\n\nevent: li");
        assert_eq!(parser.next(), None);
        parser
            .buffer
            .extend_from_slice(b"ne\r\ndata: a\r\ndata: b\r\n\r\nid: 3\ndata:c\n\n");
        let event = parser.next().unwrap();
        assert_eq!((event.name.as_str(), event.data.as_str()), ("line", "a\nb"));
        assert_eq!(parser.next().unwrap().data, "c");
        assert_eq!(parser.next(), None);
    }

    #[test]
    fn a_live_deployment_is_waited_for_until_it_is_served() {
        assert!(is_awaited(&json!({ "state": "live", "served": false })));
        for settled in [
            json!({ "state": "live", "served": true }),
            json!({ "state": "live" }),
            json!({ "state": "draining", "served": false }),
            json!({ "state": "failed", "served": false }),
        ] {
            assert!(!is_awaited(&settled), "{settled}");
        }
    }

    #[test]
    fn what_is_held_says_why() {
        let mut deployment =
            json!({ "project": "a", "number": 2, "state": "held", "held_for": "breaking" });
        assert!(summary(&deployment).contains("would break callers"));
        deployment["held_for"] = json!("promotion");
        let said = summary(&deployment);
        assert!(said.contains("promoted by hand"), "{said}");
        assert!(said.contains("berth promote a 2"), "{said}");
    }

    #[test]
    fn a_failure_says_cause_and_fix() {
        let deployment = json!({
            "project": "a", "number": 2, "state": "failed",
            "diagnosis": { "cause": "No server.", "fix": "Name one.", "location": null },
            "missing_variables": ["API_KEY", "REGION"],
        });
        insta::assert_snapshot!(summary(&deployment), @r"
        a deployment 2 failed.
          Cause: No server.
          Fix: Name one.
          Not set: API_KEY, REGION (`berth env a set …`)
        ");
    }
}
