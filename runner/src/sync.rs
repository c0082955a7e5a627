//! The runner's side of the conversation with the control plane.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use reqwest::{Client, StatusCode};
use url::Url;
use uuid::Uuid;

use crate::agent::Agent;
use crate::build::source::{UploadSource, UploadStream};
use crate::client;
use crate::clock;
use crate::config::Config;
use crate::protocol::{
    LogLine, MAX_WAIT_MS, PROTOCOL_VERSION, PlanAnswer, Report, RepositoryAccess, SyncRequest,
    SyncResponse,
};
use crate::runtime::Runtime;

/// How long an answer may take beyond the time it may be held.
const GRACE: Duration = Duration::from_secs(10);
/// How long the answer to a question for access may take: GitHub may be asked for a token.
const ACCESS_LIMIT: Duration = Duration::from_secs(30);
/// The first wait after a failure.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// The longest wait after failures: the control plane is back soon, and many runners spread out.
const LAST_RETRY: Duration = Duration::from_secs(5);
/// An absence of the control plane that is worth a line in the runner's log.
const NOTABLE_ABSENCE: Duration = Duration::from_secs(5);
/// Lines wait this long for company before they are sent.
const LOG_INTERVAL: Duration = Duration::from_millis(100);

/// The control plane, as this runner sees it.
#[derive(Clone)]
pub struct Control {
    client: Client,
    base: Url,
    token: String,
}

impl Control {
    /// Prepares to talk; connects at the first call.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            client: client::direct(true)?,
            base: config.control_url.clone(),
            token: config.role_token()?,
        })
    }

    fn url(&self, path: &str) -> anyhow::Result<Url> {
        let base = self.base.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}{path}")).context("the control plane's URL cannot be extended")
    }

    async fn sync(&self, request: &SyncRequest) -> anyhow::Result<SyncResponse> {
        let held = Duration::from_millis(u64::from(request.wait_ms));
        let response = self
            .client
            .post(self.url("/internal/runner/sync")?)
            .bearer_auth(&self.token)
            .timeout(held + GRACE)
            .json(request)
            .send()
            .await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            bail!("the control plane does not accept this runner's role token");
        }
        Ok(response.error_for_status()?.json().await?)
    }

    async fn logs(&self, lines: &[LogLine]) -> anyhow::Result<()> {
        self.client
            .post(self.url("/internal/runner/logs")?)
            .bearer_auth(&self.token)
            .timeout(GRACE)
            .json(lines)
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }

    /// Sends the text of a lock.
    pub async fn lock(&self, sha256: &str, text: String) -> anyhow::Result<()> {
        self.client
            .put(self.url(&format!("/internal/runner/locks/{sha256}"))?)
            .bearer_auth(&self.token)
            .timeout(GRACE)
            .body(text)
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }

    /// Sends a plan that was asked for.
    pub async fn planned(&self, answer: &PlanAnswer) -> anyhow::Result<()> {
        self.client
            .post(self.url("/internal/runner/plans")?)
            .bearer_auth(&self.token)
            .timeout(GRACE)
            .json(answer)
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }

    async fn upload(&self, sha256: &str) -> anyhow::Result<Option<UploadStream>> {
        let response = self
            .client
            .get(self.url(&format!("/internal/runner/uploads/{sha256}"))?)
            .bearer_auth(&self.token)
            .send()
            .await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let stream = response.error_for_status()?.bytes_stream();
        Ok(Some(stream.map_err(std::io::Error::other).boxed()))
    }

    /// Asks for what reads a repository. The control plane's sentence says why there is nothing.
    async fn repository_access(&self, id: i64) -> anyhow::Result<Option<RepositoryAccess>> {
        let response = self
            .client
            .post(self.url(&format!("/internal/runner/repositories/{id}/access"))?)
            .bearer_auth(&self.token)
            .timeout(ACCESS_LIMIT)
            .send()
            .await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(response.json().await?)),
            _ => bail!("{}", response.text().await?),
        }
    }
}

impl UploadSource for Control {
    fn open<'a>(&'a self, sha256: &'a str) -> BoxFuture<'a, anyhow::Result<Option<UploadStream>>> {
        self.upload(sha256).boxed()
    }

    fn access(&self, repository: i64) -> BoxFuture<'_, anyhow::Result<Option<RepositoryAccess>>> {
        self.repository_access(repository).boxed()
    }
}

/// Waits after failures: doubling, with jitter, so that runners do not come back all at once.
struct Backoff(Duration);

impl Backoff {
    fn new() -> Self {
        Self(FIRST_RETRY)
    }

    fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(LAST_RETRY);
        // Between half and all of it; a fresh UUID's random bits do for a die.
        let die = Uuid::new_v4().as_bytes()[0];
        wait / 2 + wait.mul_f64(f64::from(die) / 255.0) / 2
    }
}

/// Reports what is observed and takes what is desired, until shutdown. What is observed goes up
/// with a sync that is not held and not cut short, so that it always arrives; then a held one
/// without observations waits for news, and a change of what is observed ends that wait. While
/// the control plane is away, what runs goes on.
pub async fn sync<R: Runtime>(control: &Control, agent: &Agent<R>) {
    let mut board = agent.board();
    let mut backoff = Backoff::new();
    let mut after = 0;
    let mut away_since: Option<Instant> = None;
    let mut is_said = false;
    let mut is_told = false;
    while !agent.shutdown.is_cancelled() {
        let has_news = board.has_changed().unwrap_or(false);
        let request = if is_told && !has_news {
            agent.request(None, after, MAX_WAIT_MS).await
        } else {
            let observed: Vec<Report> = board.borrow_and_update().values().cloned().collect();
            agent.request(Some(observed), after, 0).await
        };
        let is_held = request.wait_ms > 0;
        let answer = tokio::select! {
            answer = control.sync(&request) => answer,
            _ = board.changed(), if is_held => {
                is_told = false;
                continue;
            }
            () = agent.shutdown.cancelled() => break,
        };
        // After a held one everything is told again: the control plane may have been restored.
        is_told = answer.is_ok() && !is_held;
        match answer {
            Ok(answer) => {
                if is_said {
                    tracing::info!("the control plane is back");
                }
                (away_since, is_said) = (None, false);
                backoff = Backoff::new();
                after = answer.version;
                agent.set_desired(answer);
            }
            Err(error) => {
                // A control plane that starts or restarts is away for a moment: no news.
                let away = away_since.get_or_insert_with(Instant::now).elapsed();
                if !is_said && away >= NOTABLE_ABSENCE {
                    is_said = true;
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "the control plane does not answer; what runs goes on"
                    );
                }
                // Whatever it knew of us may be gone: ask for everything.
                after = 0;
                unless_shutdown(agent, tokio::time::sleep(backoff.next())).await;
            }
        }
    }
}

/// Sends log lines in batches until shutdown, and what is left then once more.
pub async fn send_logs<R: Runtime>(control: &Control, agent: &Agent<R>) {
    let mut backoff = Backoff::new();
    while !agent.shutdown.is_cancelled() {
        let batch = agent.logs.batch();
        if batch.is_empty() {
            agent.positions.save(false);
            // The timeout is for streams that fell silent and still have a notice to give.
            let wait = tokio::time::timeout(Duration::from_secs(1), agent.logs.written());
            if unless_shutdown(agent, wait)
                .await
                .is_some_and(|woken| woken.is_ok())
            {
                unless_shutdown(agent, tokio::time::sleep(LOG_INTERVAL)).await;
            }
            continue;
        }
        match unless_shutdown(agent, control.logs(&batch)).await {
            Some(Ok(())) => {
                backoff = Backoff::new();
                agent.lines_sent(&batch);
            }
            Some(Err(error)) => {
                tracing::debug!(error = format!("{error:#}"), "log lines wait");
                unless_shutdown(agent, tokio::time::sleep(backoff.next())).await;
            }
            None => {}
        }
    }
    let batch = agent.logs.batch();
    if !batch.is_empty() && control.logs(&batch).await.is_ok() {
        agent.lines_sent(&batch);
    }
    agent.positions.save(true);
}

async fn unless_shutdown<R: Runtime, T>(
    agent: &Agent<R>,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        done = future => Some(done),
        () = agent.shutdown.cancelled() => None,
    }
}

impl<R: Runtime> Agent<R> {
    async fn request(
        &self,
        observed: Option<Vec<Report>>,
        after: i64,
        wait_ms: u32,
    ) -> SyncRequest {
        let volumes = observed.as_ref().and_then(|_| {
            let reports = self.volumes.report();
            reports
                .inspect_err(|error| tracing::warn!(%error, "the volumes cannot be listed"))
                .ok()
        });
        SyncRequest {
            protocol: PROTOCOL_VERSION,
            runner: self.id,
            sequence: clock::micros(clock::now()),
            name: self.name.clone(),
            public_key: self.keys.public_base64(),
            images: self.image_names().await,
            build_slots: self.settings.build_slots,
            observed: observed.unwrap_or_default(),
            volumes,
            after,
            wait_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_are_bounded_and_never_zero() {
        let mut backoff = Backoff::new();
        let waits: Vec<Duration> = (0..20).map(|_| backoff.next()).collect();
        assert!(waits[0] >= FIRST_RETRY / 2 && waits[0] <= FIRST_RETRY);
        assert!(waits.iter().all(|wait| *wait <= LAST_RETRY));
        assert!(waits[19] >= LAST_RETRY / 2);
    }
}
