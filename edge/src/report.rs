//! Tells the control plane what the edge has seen: who depends on which instance, which calls were
//! answered, which steps clients took. What cannot be told is kept, within bounds, and told later. Of a
//! report without an answer nobody knows whether it was taken: it is sent again as it is, under its
//! id, before anything else.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use http::StatusCode;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::control::ControlPlane;
use crate::protocol::{CallEvent, ConnectionStep, EdgeReport, InstanceUse, ReportId};
use crate::server::Edge;

/// How often the reporter looks. What must be told at once waits this long for what comes with it.
const TICK: Duration = Duration::from_millis(200);

/// Steps are told together at most this often: strangers can make one with every request.
const STEPS: Duration = Duration::from_secs(1);

/// Ticks between two looks for connections to instances that are idle for too long.
const SWEEP: u32 = 10;

/// Longest time for the control plane to take a report.
const TAKE: Duration = Duration::from_secs(10);

/// The same for the last one, when the edge stops.
const LAST: Duration = Duration::from_secs(2);

/// Until a first report has been taken one is tried this often: before, the control plane cannot
/// publish the key with which this edge introduces callers.
const GREET: Duration = Duration::from_secs(1);

/// Calls in one report: some 1 MB if each has another caller, a small part of what the control plane
/// takes at once.
const MAX_CALLS: usize = 4000;

/// Calls kept while the control plane is away; the oldest go first. Some 9 MiB.
const MAX_PENDING: usize = 100_000;

/// What is told and not yet taken.
struct Reporter {
    edge: Arc<Edge>,
    control: Arc<ControlPlane>,
    pending: VecDeque<CallEvent>,
    dropped: u64,
    /// The last report, while it may or may not have been taken.
    unsure: Option<EdgeReport>,
    /// The id of the last report.
    id: ReportId,
    /// Who depended on each instance by the last report.
    told: HashMap<Uuid, InstanceUse>,
    /// The snapshot in use by the last report, taken or not.
    told_version: i64,
    /// When a report was last tried,
    tried: Option<Instant>,
    /// and whether one was ever taken.
    known: bool,
    in_touch: bool,
}

/// Reports until `stopped`, which is cancelled when nothing is answered any more, and once then.
pub(crate) async fn follow(
    edge: Arc<Edge>,
    control: Arc<ControlPlane>,
    stopped: CancellationToken,
) {
    let mut reporter = Reporter {
        tried: None,
        known: false,
        edge,
        control,
        pending: VecDeque::new(),
        dropped: 0,
        unsure: None,
        id: ReportId {
            run: Uuid::new_v4(),
            number: 0,
        },
        told: HashMap::new(),
        told_version: 0,
        in_touch: true,
    };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let run = async {
        for number in (0..SWEEP).cycle() {
            ticks.tick().await;
            reporter.collect();
            if number == 0 {
                reporter.edge.sweep();
            }
            if reporter.is_due() {
                reporter.report(&mut ticks, TAKE).await;
            }
        }
    };
    tokio::select! {
        () = run => {}
        () = stopped.cancelled() => {}
    }
    reporter.collect();
    reporter.report(&mut interval(TICK), LAST).await;
}

impl Reporter {
    /// Takes the calls from where they are noted, which has room for a few ticks only.
    fn collect(&mut self) {
        let pending = &mut self.pending;
        self.dropped += self.edge.calls.drain(|call| pending.push_back(call));
        let surplus = pending.len().saturating_sub(MAX_PENDING);
        pending.drain(..surplus);
        self.dropped += surplus as u64;
    }

    fn is_due(&self) -> bool {
        let pause = self.edge.times.report;
        let pause = if self.known { pause } else { GREET.min(pause) };
        if self.tried.is_none_or(|tried| tried.elapsed() >= pause) {
            return true;
        }
        let rested = self.tried.is_none_or(|tried| tried.elapsed() >= STEPS);
        // After a failure the haste is over.
        self.in_touch
            && (!self.edge.wanted.is_empty()
                || rested && !self.edge.steps.is_empty()
                || self.pending.len() >= MAX_CALLS
                || self.version() != self.told_version
                || self.became_idle())
    }

    /// The version of the snapshot in use.
    fn version(&self) -> i64 {
        self.edge.routes.version().unwrap_or_default()
    }

    /// Whether a replaced instance is needed by nobody, which has not been told.
    fn became_idle(&self) -> bool {
        let is_news = |used: &InstanceUse| {
            used.sessions == 0
                && used.requests == 0
                && self.told.get(&used.deployment) != Some(used)
        };
        let sites = self.edge.routes.sites();
        sites
            .iter()
            .filter(|site| !site.draining().is_empty())
            .flat_map(|site| site.uses())
            .any(|used| is_news(&used))
    }

    /// Tells everything, in as many reports as that takes.
    async fn report(&mut self, ticks: &mut Interval, longest: Duration) {
        loop {
            let again = self.unsure.take();
            let is_again = again.is_some();
            let report = EdgeReport {
                version: self.version(),
                instances: self.instances(),
                wanted: self.edge.wanted.take(),
                ..again.unwrap_or_else(|| self.gather())
            };
            self.tried = Some(Instant::now());
            self.told_version = report.version;
            let json = serde_json::to_vec(&report);
            // Here it is found again should the edge stop before there is an answer.
            self.unsure = Some(report);
            let taken = match json {
                Ok(json) => self.post(json, ticks, longest).await,
                Err(error) => Err(error.into()),
            };
            match taken {
                Ok(taken) => self.note_answer(&taken),
                Err(error) => return self.note_failure(&error),
            }
            if !is_again && self.pending.len() < MAX_CALLS {
                return;
            }
        }
    }

    /// A report of what is new.
    fn gather(&mut self) -> EdgeReport {
        let (steps, more) = self.edge.steps.take();
        let most = self.pending.len().min(MAX_CALLS);
        self.id.number += 1;
        EdgeReport {
            edge: self.edge.identity.kid().to_owned(),
            key: self.edge.identity.public_jwk().clone(),
            version: 0,
            id: Some(self.id),
            instances: Vec::new(),
            wanted: Vec::new(),
            calls: self.pending.drain(..most).collect(),
            steps,
            dropped: std::mem::take(&mut self.dropped) + more,
        }
    }

    fn instances(&self) -> Vec<InstanceUse> {
        let sites = self.edge.routes.sites();
        sites.iter().flat_map(|site| site.uses()).collect()
    }

    /// Sends a report; calls are collected meanwhile.
    async fn post(
        &mut self,
        json: Vec<u8>,
        ticks: &mut Interval,
        longest: Duration,
    ) -> anyhow::Result<Taken> {
        let control = Arc::clone(&self.control);
        let mut posted = pin!(control.post("/internal/edge/reports", json, longest));
        let (status, _) = loop {
            tokio::select! {
                posted = &mut posted => break posted?,
                _ = ticks.tick() => self.collect(),
            }
        };
        if status.is_success() {
            return Ok(Taken::Yes);
        }
        // Sent again it would be refused again, and hold up all that comes after it.
        let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
        if status.is_client_error() && !later.contains(&status) {
            return Ok(Taken::Never(status));
        }
        bail!("the control plane answered {status}")
    }

    fn note_answer(&mut self, taken: &Taken) {
        let Some(report) = self.unsure.take() else {
            return;
        };
        if let Taken::Never(status) = taken {
            tracing::warn!(%status, "the control plane refuses a report; what it told is lost");
            self.dropped += report.dropped + lost(&report);
            return;
        }
        if !self.in_touch {
            tracing::info!("the control plane takes reports again");
        }
        self.in_touch = true;
        self.known = true;
        self.told = report
            .instances
            .iter()
            .map(|used| (used.deployment, *used))
            .collect();
    }

    fn note_failure(&mut self, error: &anyhow::Error) {
        // The first failure of a row is told; the rest say the same.
        if self.in_touch {
            tracing::warn!(
                error = format!("{error:#}"),
                "the control plane does not take reports; keeping them"
            );
        }
        self.in_touch = false;
        self.collect();
    }
}

/// What became of a report that arrived.
enum Taken {
    Yes,
    /// It is not understood, and will not be.
    Never(StatusCode),
}

/// Events in a report.
fn lost(report: &EdgeReport) -> u64 {
    let steps = |step: &ConnectionStep| u64::from(step.count);
    report.calls.len() as u64 + report.steps.iter().map(steps).sum::<u64>()
}
