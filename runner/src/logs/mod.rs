//! From a container's output to the control plane: every line made safe, numbered, limited and
//! sent in batches.
//!
//! Nothing here blocks who writes: a [`LogWriter`] puts a line in a bounded queue, and a task
//! sends it when the control plane is there. When the queue is full the oldest lines go.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock;
use crate::protocol::{LogLine, LogStream};

mod mask;
mod positions;
mod tame;

pub use mask::Masker;
pub use positions::Positions;
pub use tame::{MAX_TEXT_BYTES, tame};

/// Lines a second that one stream may write for long: more than anyone reads, and little enough
/// for the control plane to store from many projects at once.
const LINES_PER_SECOND: f64 = 500.0;
/// Lines that one stream may write at once, for example a long traceback or a chatty start.
const BURST_LINES: f64 = 2_000.0;
/// Between two notices of what a container left out.
const TELL_AGAIN: time::Duration = time::Duration::milliseconds(900);
/// Lines kept while the control plane is away.
const MAX_QUEUED_LINES: usize = 20_000;
/// Bytes of text kept while the control plane is away.
const MAX_QUEUED_BYTES: usize = 16 * 1024 * 1024;
/// Lines sent in one message.
const BATCH_LINES: usize = 500;
/// Bytes of text sent in one message.
const BATCH_BYTES: usize = 1024 * 1024;

/// The queue between those who write lines and the task that sends them.
#[derive(Default)]
pub struct LogQueue {
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Default)]
struct Inner {
    lines: VecDeque<LogLine>,
    bytes: usize,
    streams: HashMap<(Uuid, LogStream), Stream>,
    /// Lines that went because the queue was full, per stream, since the last notice.
    lost: HashMap<(Uuid, LogStream), u64>,
}

/// What is remembered of one stream between its lines.
struct Stream {
    last_sequence: i64,
    /// Lines it may write now.
    credit: f64,
    refilled: Instant,
    /// Lines left out since the last notice because it wrote too fast.
    dropped: u64,
    /// Lines and bytes that its container left out since it was last told.
    left_out: (u64, u64),
    /// When that was told.
    told: Option<OffsetDateTime>,
}

impl Stream {
    fn new(now: Instant) -> Self {
        Self {
            last_sequence: 0,
            credit: BURST_LINES,
            refilled: now,
            dropped: 0,
            left_out: (0, 0),
            told: None,
        }
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.refilled).as_secs_f64();
        self.credit = (self.credit + elapsed * LINES_PER_SECOND).min(BURST_LINES);
        self.refilled = now;
    }
}

impl Inner {
    fn push(&mut self, key: (Uuid, LogStream), at: OffsetDateTime, text: String) {
        let stream = self
            .streams
            .entry(key)
            .or_insert_with(|| Stream::new(Instant::now()));
        let sequence = clock::micros(at).max(stream.last_sequence + 1);
        stream.last_sequence = sequence;
        self.bytes += text.len();
        self.lines.push_back(LogLine {
            deployment: key.0,
            stream: key.1,
            sequence,
            at,
            text,
        });
        while self.lines.len() > MAX_QUEUED_LINES || self.bytes > MAX_QUEUED_BYTES {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.text.len();
            *self
                .lost
                .entry((oldest.deployment, oldest.stream))
                .or_default() += 1;
        }
    }

    /// Pushes unless the stream is too fast; says how many lines were left out as soon as it
    /// may write again.
    fn push_limited(
        &mut self,
        key: (Uuid, LogStream),
        at: OffsetDateTime,
        text: String,
        now: Instant,
    ) {
        let stream = self.streams.entry(key).or_insert_with(|| Stream::new(now));
        stream.refill(now);
        if stream.credit < 1.0 {
            stream.dropped += 1;
            return;
        }
        stream.credit -= 1.0;
        let dropped = std::mem::take(&mut stream.dropped);
        if dropped > 0 {
            self.push(key, at, too_fast(dropped));
        }
        self.push(key, at, text);
    }

    /// Takes what a container's guard says that it left out, and tells it at most once a second: a
    /// program could say the same line as often as it likes.
    fn push_left_out(
        &mut self,
        key: (Uuid, LogStream),
        at: OffsetDateTime,
        lines: u64,
        bytes: u64,
    ) {
        let stream = self
            .streams
            .entry(key)
            .or_insert_with(|| Stream::new(Instant::now()));
        stream.left_out.0 = stream.left_out.0.saturating_add(lines);
        stream.left_out.1 = stream.left_out.1.saturating_add(bytes);
        if stream.told.is_some_and(|told| at - told < TELL_AGAIN) {
            return;
        }
        stream.told = Some(at);
        let (lines, bytes) = std::mem::take(&mut stream.left_out);
        self.push(
            key,
            at,
            format!("{lines} lines ({bytes} bytes) left out: the program writes too fast."),
        );
    }

    /// Says what was left out of streams that fell silent since.
    fn push_notices(&mut self, now: Instant) {
        let mut notices = Vec::new();
        for (key, stream) in &mut self.streams {
            stream.refill(now);
            if stream.dropped > 0 && stream.credit >= 1.0 {
                stream.credit -= 1.0;
                notices.push((*key, too_fast(std::mem::take(&mut stream.dropped))));
            }
        }
        for (key, count) in self.lost.drain() {
            notices.push((
                key,
                format!("{count} lines dropped: the control plane was away for too long."),
            ));
        }
        for (key, text) in notices {
            self.push(key, clock::now(), text);
        }
    }
}

fn too_fast(dropped: u64) -> String {
    format!("{dropped} lines dropped: more than {LINES_PER_SECOND} lines a second.")
}

impl LogQueue {
    /// An empty queue.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A writer of one stream of one deployment. `masker` knows the deployment's secrets.
    pub fn writer(
        self: &Arc<Self>,
        deployment: Uuid,
        stream: LogStream,
        masker: Arc<Masker>,
    ) -> LogWriter {
        LogWriter {
            queue: Arc::clone(self),
            key: (deployment, stream),
            masker,
        }
    }

    /// The next lines to send, oldest first, without taking them away: see [`Self::sent`].
    pub fn batch(&self) -> Vec<LogLine> {
        let mut inner = self.lock();
        inner.push_notices(Instant::now());
        let mut bytes = 0;
        inner
            .lines
            .iter()
            .take(BATCH_LINES)
            .take_while(|line| {
                let fits = bytes == 0 || bytes + line.text.len() <= BATCH_BYTES;
                bytes += line.text.len();
                fits
            })
            .cloned()
            .collect()
    }

    /// Forgets a batch that has arrived. Lines of it that already had to go are not missed.
    pub fn sent(&self, batch: &[LogLine]) {
        let mut inner = self.lock();
        for line in batch {
            let first = inner.lines.front();
            if first.is_some_and(|f| {
                (f.deployment, f.stream, f.sequence)
                    == (line.deployment, line.stream, line.sequence)
            }) {
                inner.lines.pop_front();
                inner.bytes -= line.text.len();
            }
        }
    }

    /// Lets a stream go on after `sequence`: what was sent before a restart is not sent again.
    pub fn resume(&self, deployment: Uuid, stream: LogStream, sequence: i64) {
        let mut inner = self.lock();
        let stream = inner
            .streams
            .entry((deployment, stream))
            .or_insert_with(|| Stream::new(Instant::now()));
        stream.last_sequence = stream.last_sequence.max(sequence);
    }

    /// Forgets a deployment that is gone; lines still in the queue are sent.
    pub fn forget(&self, deployment: Uuid) {
        self.lock().streams.retain(|key, _| key.0 != deployment);
    }

    /// Resolves when a line was written since the last call.
    pub async fn written(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("nothing that holds the lock can panic")
    }
}

/// Writes lines of one stream of one deployment. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct LogWriter {
    queue: Arc<LogQueue>,
    key: (Uuid, LogStream),
    masker: Arc<Masker>,
}

impl LogWriter {
    /// Writes what the platform itself says: never left out for speed.
    pub fn line(&self, text: impl Into<String>) {
        let text = tame(text.into().as_bytes(), &self.masker);
        self.queue.lock().push(self.key, clock::now(), text);
        self.queue.wake.notify_one();
    }

    /// Writes a line of a program's output: any bytes, subject to the stream's rate.
    pub fn output(&self, at: OffsetDateTime, bytes: &[u8]) {
        let text = tame(bytes, &self.masker);
        self.queue
            .lock()
            .push_limited(self.key, at, text, Instant::now());
        self.queue.wake.notify_one();
    }

    /// Writes what a container's guard left out, if that is what a line for the runner tells.
    pub fn event(&self, at: OffsetDateTime, event: &Value) {
        if event["phase"] == "left_out" {
            let count = |name: &str| event[name].as_u64().unwrap_or(0);
            let (lines, bytes) = (count("lines"), count("bytes"));
            self.queue.lock().push_left_out(self.key, at, lines, bytes);
            self.queue.wake.notify_one();
        }
    }

    /// Hides the deployment's secrets in text that goes elsewhere than the log.
    pub fn mask(&self, text: &str) -> String {
        self.masker.mask(text)
    }

    /// Hides them in every text of a JSON document.
    pub fn mask_all(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.mask(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask_all(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.mask_all(field)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const KEY: (Uuid, LogStream) = (Uuid::nil(), LogStream::Instance);

    fn at(micros: i128) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(micros * 1_000).unwrap()
    }

    fn writer(queue: &Arc<LogQueue>) -> LogWriter {
        queue.writer(KEY.0, KEY.1, Arc::default())
    }

    #[test]
    fn sequences_grow_even_when_times_do_not() {
        let queue = LogQueue::new();
        let writer = writer(&queue);
        for micros in [5, 5, 3, 9] {
            writer.output(at(micros), b"x");
        }
        let sequences: Vec<i64> = queue.batch().iter().map(|line| line.sequence).collect();
        assert_eq!(sequences, [5, 6, 7, 9]);
    }

    #[test]
    fn a_stream_goes_on_after_what_was_sent_before_a_restart() {
        let queue = LogQueue::new();
        queue.resume(KEY.0, KEY.1, 100);
        writer(&queue).output(at(50), b"x");
        assert_eq!(queue.batch()[0].sequence, 101);
    }

    #[test]
    fn a_batch_stays_until_it_has_arrived() {
        let queue = LogQueue::new();
        writer(&queue).line("one");
        writer(&queue).line("two");
        let batch = queue.batch();
        assert_eq!(batch.len(), 2);
        assert_eq!(queue.batch(), batch);
        queue.sent(&batch[..1]);
        assert_eq!(queue.batch(), batch[1..]);
        queue.sent(&batch[..1]);
        assert_eq!(queue.batch(), batch[1..], "only what is in front goes");
        queue.sent(&batch);
        assert!(queue.batch().is_empty());
    }

    #[test]
    fn a_flood_is_cut_and_counted_once() {
        let mut inner = Inner::default();
        let start = Instant::now();
        for _ in 0..5_000 {
            inner.push_limited(KEY, at(1), "x".into(), start);
        }
        assert_eq!(inner.lines.len(), 2_000);
        inner.push_notices(start);
        assert_eq!(inner.lines.len(), 2_000, "not before it may write again");
        inner.push_limited(KEY, at(2), "y".into(), start + Duration::from_secs(1));
        let texts: Vec<&str> = inner.lines.iter().skip(2_000).map(|l| &*l.text).collect();
        assert_eq!(
            texts,
            ["3000 lines dropped: more than 500 lines a second.", "y"]
        );
    }

    #[test]
    fn r53_what_a_container_left_out_is_told_once_a_second() {
        let queue = LogQueue::new();
        let log = writer(&queue);
        for micros in [1_000_000, 1_100_000, 2_100_000] {
            let event = serde_json::json!({ "phase": "left_out", "lines": 5, "bytes": 10 });
            log.event(at(micros), &event);
        }
        log.event(at(9_000_000), &serde_json::json!({ "phase": "serve" }));
        let texts: Vec<String> = queue.batch().into_iter().map(|line| line.text).collect();
        assert_eq!(
            texts,
            [
                "5 lines (10 bytes) left out: the program writes too fast.",
                "10 lines (20 bytes) left out: the program writes too fast."
            ]
        );
    }

    #[test]
    fn a_flood_that_ends_is_counted_too() {
        let mut inner = Inner::default();
        let start = Instant::now();
        for _ in 0..2_001 {
            inner.push_limited(KEY, at(1), "x".into(), start);
        }
        inner.push_notices(start + Duration::from_secs(1));
        assert!(
            inner
                .lines
                .back()
                .unwrap()
                .text
                .starts_with("1 lines dropped")
        );
    }

    #[test]
    fn a_long_absence_costs_the_oldest_lines_and_says_so() {
        let mut inner = Inner::default();
        for index in 0..=MAX_QUEUED_LINES {
            inner.push(KEY, at(1), index.to_string());
        }
        assert_eq!(inner.lines.front().unwrap().text, "1");
        inner.push_notices(Instant::now());
        assert_eq!(
            inner.lines.back().unwrap().text,
            "1 lines dropped: the control plane was away for too long."
        );
        let text = "x".repeat(MAX_QUEUED_BYTES / 2);
        inner.push(KEY, at(1), text.clone());
        inner.push(KEY, at(1), text);
        assert!(inner.bytes <= MAX_QUEUED_BYTES);
    }

    #[test]
    fn batches_are_bounded_but_never_empty() {
        let queue = LogQueue::new();
        let long = "x".repeat(MAX_TEXT_BYTES);
        for _ in 0..100 {
            writer(&queue).line(long.clone());
        }
        let batch = queue.batch();
        assert_eq!(batch.len(), BATCH_BYTES / MAX_TEXT_BYTES);
    }
}
