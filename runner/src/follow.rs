//! Reads an instance's output as long as it runs: lines for the log go there, lines of the
//! launcher tell how far the start has come.

use std::collections::VecDeque;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::Value;
use tokio::sync::watch;

use crate::clock;
use crate::launcher;
use crate::logs::LogWriter;
use crate::runtime::{OutputLine, RuntimeError};

/// Lines remembered for a diagnosis: a traceback and what led to it.
const TAIL_LINES: usize = 100;

/// What an instance has said so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    /// Milliseconds the interpreter and the environment's imports took.
    pub prepare_ms: Option<u64>,
    /// Milliseconds the project's own import took.
    pub import_ms: Option<u64>,
    /// The port is open.
    pub serving: bool,
    /// One sentence for the owner, from the launcher.
    pub notice: Option<String>,
    /// Versions of the packages that matter.
    pub packages: Value,
    /// The launcher's account of a failure.
    pub failure: Option<Value>,
    /// How many lines its log has.
    pub lines: u64,
    /// The last lines of its log.
    pub tail: VecDeque<String>,
    /// Those of them since it serves. What was logged before has not kept it from serving.
    pub tail_serving: VecDeque<String>,
    /// There will be no more.
    pub ended: bool,
}

impl Said {
    fn event(&mut self, event: Value) {
        let ms = event["ms"].as_u64();
        match event["phase"].as_str() {
            Some("prepare") if self.prepare_ms.is_none() => {
                self.prepare_ms = ms;
                self.packages = event["packages"].clone();
            }
            Some("import") if self.import_ms.is_none() => self.import_ms = ms,
            Some("serve") if self.failure.is_none() => {
                self.serving = true;
                self.notice = event["notice"].as_str().map(str::to_owned);
            }
            // A server's own code could print one too; once it serves it is no start failure.
            Some("fail") if self.failure.is_none() && !self.serving => {
                let mut event = event;
                if self.packages.is_object() {
                    event["packages"] = self.packages.clone();
                }
                self.failure = Some(event);
            }
            _ => {}
        }
    }

    fn line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line).into_owned();
        self.lines += 1;
        if self.serving {
            push(&mut self.tail_serving, line.clone());
        }
        push(&mut self.tail, line);
    }
}

fn push(tail: &mut VecDeque<String>, line: String) {
    if tail.len() == TAIL_LINES {
        tail.pop_front();
    }
    tail.push_back(line);
}

/// Follows to the end. Lines up to `after` (microseconds) were sent by an earlier run.
pub async fn follow(
    mut output: BoxStream<'static, Result<OutputLine, RuntimeError>>,
    log: LogWriter,
    after: i64,
    said: watch::Sender<Said>,
) {
    while let Some(line) = output.next().await {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                tracing::debug!(%error, "an instance's output broke off");
                break;
            }
        };
        if clock::micros(line.at) <= after {
            continue;
        }
        let (text, event) = launcher::split_line(&line.bytes);
        if let Some(text) = text {
            log.output(line.at, text);
        }
        if let Some(event) = &event {
            log.event(line.at, event);
        }
        // Nobody is told of plain lines: only starts and ends are waited for.
        let is_news = event.is_some();
        said.send_if_modified(|said| {
            if let Some(text) = text {
                said.line(text);
            }
            if let Some(event) = event {
                said.event(event);
            }
            is_news
        });
    }
    said.send_modify(|said| said.ended = true);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::logs::LogQueue;
    use crate::protocol::LogStream;

    #[tokio::test]
    async fn launcher_lines_are_taken_out_and_understood() {
        let lines = [
            (1, "sent before"),
            (2, "hello"),
            (3, r#"@@berth {"phase":"prepare","ms":940}"#),
            (4, r#"...@@berth {"phase":"import","ms":8}"#),
            (5, r#"@@berth {"phase":"serve","ms":60,"notice":"Note."}"#),
            (6, r#"@@berth {"phase":"fail","message":"a trick"}"#),
        ];
        let output = futures_util::stream::iter(lines.map(|(at, text)| {
            Ok(OutputLine {
                at: time::OffsetDateTime::from_unix_timestamp_nanos(at * 1_000).unwrap(),
                bytes: text.into(),
            })
        }));
        let queue = LogQueue::new();
        let log = queue.writer(Uuid::nil(), LogStream::Instance, Arc::default());
        let (sender, said) = watch::channel(Said::default());
        follow(output.boxed(), log, 1, sender).await;
        let texts: Vec<String> = queue.batch().into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["hello", "..."]);
        let said = said.borrow();
        assert_eq!(said.prepare_ms, Some(940));
        assert_eq!(said.import_ms, Some(8));
        assert!(said.serving && said.ended && said.failure.is_none());
        assert_eq!(said.notice.as_deref(), Some("Note."));
        assert_eq!(said.tail, ["hello", "..."]);
    }

    #[test]
    fn the_first_failure_counts() {
        let mut said = Said::default();
        said.event(json!({"phase": "fail", "message": "one"}));
        said.event(json!({"phase": "fail", "message": "two"}));
        said.event(json!({"phase": "serve"}));
        assert_eq!(said.failure.unwrap()["message"], "one");
        assert!(!said.serving);
    }
}
