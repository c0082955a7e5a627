//! Deliveries to Apps: signed, in order, at most ten seconds each, and never retried (GitHub's
//! documentation, "Webhook events and payloads" and "Handling failed webhook deliveries").

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::hmac;
use reqwest::blocking::Client;
use time::OffsetDateTime;

use super::{Github, hex, state};

/// How long GitHub waits for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a test waits for the queue to empty.
const SETTLE: Duration = Duration::from_mins(1);

/// One delivery and what became of it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// GitHub's number for it.
    pub id: u64,
    /// `X-GitHub-Delivery`; a redelivery has that of the first.
    pub guid: String,
    /// `X-GitHub-Event`.
    pub event: String,
    /// The payload's `action`.
    pub action: Option<String>,
    /// Whom it is for.
    pub app: u64,
    /// Which installation it tells of.
    pub installation: Option<u64>,
    /// Which repository it tells of.
    pub repository: Option<u64>,
    /// The raw bytes that are signed.
    pub payload: Vec<u8>,
    /// Whether it was asked for again.
    pub redelivery: bool,
    /// When it was sent; none while it waits.
    pub delivered_at: Option<OffsetDateTime>,
    /// How long the answer took.
    pub duration: Duration,
    /// The answer's status; 0 where there was no answer.
    pub status_code: u16,
    /// `OK`, or what went wrong.
    pub status: String,
    pub(super) hook: u64,
    pub(super) url: String,
    pub(super) secret: String,
}

impl Delivery {
    /// Whether the payload names something, such as a commit.
    pub fn payload_has(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.payload).contains(text)
    }

    /// The value of `X-Hub-Signature-256`.
    pub fn signature(&self) -> String {
        let algorithm = hmac::HMAC_SHA256;
        signature("sha256", algorithm, &self.secret, &self.payload)
    }
}

fn signature(name: &str, algorithm: hmac::Algorithm, secret: &str, payload: &[u8]) -> String {
    let key = hmac::Key::new(algorithm, secret.as_bytes());
    format!("{name}={}", hex(hmac::sign(&key, payload).as_ref()))
}

/// `X-Hub-Signature-256` of a payload that a test makes itself.
pub fn sign(secret: &str, payload: &[u8]) -> String {
    signature("sha256", hmac::HMAC_SHA256, secret, payload)
}

#[derive(Debug, Default)]
struct Queue {
    all: Vec<Delivery>,
    waiting: VecDeque<u64>,
    is_held: bool,
    to_lose: u32,
    is_busy: bool,
    is_closed: bool,
}

/// Deliveries, sent by a thread of their own.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Hooks {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a delivery and has it sent.
    pub fn add(&self, delivery: Delivery) {
        let mut queue = self.queue();
        let id = delivery.id;
        queue.all.push(delivery);
        if queue.to_lose > 0 {
            queue.to_lose -= 1;
            let lost = queue.all.last_mut().expect("it was just added");
            "failed to connect to host".clone_into(&mut lost.status);
            lost.delivered_at = Some(state::now());
            return;
        }
        queue.waiting.push_back(id);
        self.changed.notify_all();
    }

    /// Every delivery so far.
    pub fn all(&self) -> Vec<Delivery> {
        self.queue().all.clone()
    }

    /// One of them.
    pub fn find(&self, id: u64) -> Option<Delivery> {
        self.queue().all.iter().find(|one| one.id == id).cloned()
    }

    fn next(&self) -> Option<Delivery> {
        let mut queue = self.queue();
        loop {
            if queue.is_closed {
                return None;
            }
            if !queue.is_held
                && let Some(id) = queue.waiting.pop_front()
            {
                queue.is_busy = true;
                return queue.all.iter().find(|one| one.id == id).cloned();
            }
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn sent(&self, delivery: Delivery, by_thread: bool) {
        let mut queue = self.queue();
        if by_thread {
            queue.is_busy = false;
        }
        if let Some(kept) = queue.all.iter_mut().find(|one| one.id == delivery.id) {
            *kept = delivery;
        }
        self.changed.notify_all();
    }

    /// Sends until it is closed.
    pub fn run(self: &Arc<Self>) -> Result<std::thread::JoinHandle<()>> {
        let hooks = self.clone();
        let http = client()?;
        let thread = std::thread::Builder::new().name("webhooks".to_owned());
        Ok(thread.spawn(move || {
            while let Some(delivery) = hooks.next() {
                hooks.sent(send(&http, delivery), true);
            }
        })?)
    }

    /// Ends the thread.
    pub fn close(&self) {
        self.queue().is_closed = true;
        self.changed.notify_all();
    }
}

fn client() -> Result<Client> {
    Ok(Client::builder()
        .timeout(ANSWER)
        .redirect(reqwest::redirect::Policy::none())
        .build()?)
}

/// One request of GitHub's (its documentation, "Delivery headers").
fn send(http: &Client, mut delivery: Delivery) -> Delivery {
    let began = Instant::now();
    delivery.delivered_at = Some(state::now());
    let algorithm = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
    let legacy = signature("sha1", algorithm, &delivery.secret, &delivery.payload);
    let answer = http
        .post(&delivery.url)
        .header("accept", "*/*")
        .header("content-type", "application/json")
        .header("user-agent", "GitHub-Hookshot/044aadd")
        .header("x-github-delivery", &delivery.guid)
        .header("x-github-event", &delivery.event)
        .header("x-github-hook-id", delivery.hook)
        .header("x-github-hook-installation-target-id", delivery.app)
        .header("x-github-hook-installation-target-type", "integration")
        .header("x-hub-signature", legacy)
        .header("x-hub-signature-256", delivery.signature())
        .body(delivery.payload.clone())
        .send();
    delivery.duration = began.elapsed();
    (delivery.status_code, delivery.status) = match answer {
        Ok(answer) if answer.status().is_success() => (answer.status().as_u16(), "OK".to_owned()),
        Ok(answer) => {
            let code = answer.status().as_u16();
            (code, format!("Invalid HTTP Response: {code}"))
        }
        Err(error) if error.is_timeout() => (0, "timed out".to_owned()),
        Err(_) => (0, "failed to connect to host".to_owned()),
    };
    delivery
}

impl Github {
    /// Every delivery so far, in the order of its events.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.shared.hooks.all()
    }

    /// From now on, deliveries wait.
    pub fn hold(&self) {
        self.shared.hooks.queue().is_held = true;
    }

    /// Those that wait, in the order of their events.
    pub fn held(&self) -> Vec<Delivery> {
        let queue = self.shared.hooks.queue();
        let waits = |one: &&Delivery| queue.waiting.contains(&one.id);
        queue.all.iter().filter(waits).cloned().collect()
    }

    /// Sends some of those that wait, in this order, and gives the answers.
    pub fn deliver(&self, ids: &[u64]) -> Result<Vec<Delivery>> {
        let http = client()?;
        let mut answered = Vec::new();
        for &id in ids {
            let hooks = &self.shared.hooks;
            let delivery = hooks.find(id).context("no such delivery")?;
            hooks.queue().waiting.retain(|waiting| *waiting != id);
            let sent = send(&http, delivery);
            hooks.sent(sent.clone(), false);
            answered.push(sent);
        }
        Ok(answered)
    }

    /// Sends those that wait, in the order of their events, and holds no more.
    pub fn release(&self) {
        self.shared.hooks.queue().is_held = false;
        self.shared.hooks.changed.notify_all();
    }

    /// Loses those that wait.
    pub fn lose_held(&self) {
        self.shared.hooks.queue().waiting.clear();
    }

    /// The next deliveries get lost on their way.
    pub fn lose_next(&self, count: u32) {
        self.shared.hooks.queue().to_lose = count;
    }

    /// Waits until everything that does not wait was answered.
    pub fn settle(&self) -> Result<()> {
        let queue = self.shared.hooks.queue();
        let unfinished =
            |queue: &mut Queue| queue.is_busy || (!queue.is_held && !queue.waiting.is_empty());
        let (_queue, waited) = self
            .shared
            .hooks
            .changed
            .wait_timeout_while(queue, SETTLE, unfinished)
            .unwrap_or_else(PoisonError::into_inner);
        ensure!(!waited.timed_out(), "deliveries were not answered in time");
        Ok(())
    }

    /// Delivers once more with the same id, as the App's page and API let its owner do.
    pub fn redeliver(&self, id: u64) -> Result<Delivery> {
        let first = self.shared.hooks.find(id).context("no such delivery")?;
        self.send_copy(Delivery {
            redelivery: true,
            ..first
        })
    }

    /// The same signed bytes under another id: what somebody who overheard them could send.
    pub fn send_again(&self, id: u64) -> Result<Delivery> {
        let first = self.shared.hooks.find(id).context("no such delivery")?;
        self.send_copy(Delivery {
            guid: uuid::Uuid::new_v4().to_string(),
            ..first
        })
    }

    fn send_copy(&self, mut copy: Delivery) -> Result<Delivery> {
        copy.id = self.shared.state().id();
        let sent = send(&client()?, copy);
        self.shared.hooks.queue().all.push(sent.clone());
        Ok(sent)
    }
}
