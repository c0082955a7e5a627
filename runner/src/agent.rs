//! The loop: look at what is there, compare, act, until nothing differs.
//!
//! Deployments are worked on by one task each at a time. What a task finds goes on the board,
//! which is what the control plane is told; every change of it wakes the loop.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::StreamExt;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::build::environment::Environments;
use crate::build::pipeline;
use crate::build::source::{SourceSettings, SourceStore, UploadSource};
use crate::config::{Config, Settings};
use crate::health::Prober;
use crate::instance;
use crate::keys::{self, Keys};
use crate::launcher;
use crate::logs::{LogQueue, LogWriter, Masker};
use crate::protocol::{DeploymentSpec, Diagnosis, LogLine, LogStream, Phase, Report, SyncResponse};
use crate::reconcile::{Action, Observed, Seen, Work, reconcile};
use crate::record::{self, Record, Records};
use crate::runtime::{Image, Runtime};
use crate::store;
use crate::variables::Memory;

/// How often the engine is looked at without being asked to: what an event told is seen at once,
/// and this catches what no event told.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);
/// How long to wait when the engine does not answer.
const ENGINE_RETRY: Duration = Duration::from_secs(2);
/// How long the list of images is believed.
const IMAGES_TTL: Duration = Duration::from_secs(30);
/// How often positions in logs are saved: what is sent again after a crash is recognised.
const POSITIONS_INTERVAL: Duration = Duration::from_secs(2);
/// Instances started at the same time. An engine starts a handful a second however many are asked
/// for, and those already starting should not wait for all the others.
const STARTS_AT_ONCE: usize = 4;
/// How often sources and environments that nothing uses are looked for.
const CLEAN_INTERVAL: Duration = Duration::from_hours(1);

/// What a runner is made of.
pub struct Agent<R> {
    /// This runner.
    pub id: Uuid,
    /// Its name for people.
    pub name: String,
    /// Its settings.
    pub settings: Settings,
    /// Where it keeps everything.
    pub directory: PathBuf,
    /// The container engine.
    pub runtime: R,
    /// Its key pair.
    pub keys: Keys,
    /// Lines on their way to the control plane.
    pub logs: Arc<LogQueue>,
    /// Sources on this machine.
    pub sources: SourceStore,
    /// Environments on this machine.
    pub environments: Environments,
    /// Asks instances what they offer.
    pub prober: Prober,
    /// Where variables are kept in memory.
    pub memory: Memory,
    /// The directory with the programs for containers.
    pub programs: PathBuf,
    /// Ends everything.
    pub shutdown: CancellationToken,
    /// Every task of the runner.
    pub tasks: TaskTracker,
    /// Bounds the instances that are being started.
    pub starts: Semaphore,
    records: Records,
    entries: Mutex<BTreeMap<Uuid, Entry>>,
    board: watch::Sender<BTreeMap<Uuid, Report>>,
    desired: watch::Sender<Option<SyncResponse>>,
    wake: Notify,
    images: Mutex<Option<(Instant, Vec<Image>)>>,
    positions: Mutex<Positions>,
}

/// What is known of one deployment.
struct Entry {
    record: Record,
    work: Option<Work>,
    cancel: CancellationToken,
    checked: bool,
    /// Restarts in a row.
    restarts: u32,
    healthy_since: Option<Instant>,
    masker: Arc<Masker>,
}

impl Entry {
    fn new(record: Record) -> Self {
        Self {
            record,
            work: None,
            cancel: CancellationToken::new(),
            checked: false,
            restarts: 0,
            healthy_since: None,
            masker: Arc::default(),
        }
    }
}

/// How far the log of each deployment's instance was sent, microseconds.
#[derive(Default)]
struct Positions {
    sent: HashMap<Uuid, i64>,
    changed: bool,
    saved: Option<Instant>,
}

impl<R: Runtime> Agent<R> {
    /// Opens the data directory and what is in it.
    pub fn new(config: &Config, runtime: R, shutdown: CancellationToken) -> anyhow::Result<Self> {
        let directory = config.directory()?;
        private_directory(&directory)?;
        let settings = config.settings.clone();
        let records = Records::open(directory.join("deployments"))?;
        let loaded = records.load()?;
        let board = loaded
            .iter()
            .map(|(id, record)| (*id, record.report.clone()))
            .collect();
        let entries = loaded
            .into_iter()
            .map(|(id, record)| (id, Entry::new(record)))
            .collect();
        let sources = SourceStore::new(
            directory.join("sources"),
            SourceSettings {
                allow_file: settings.allow_file_sources,
                allow_private_addresses: settings.build_allow.clone(),
            },
        )?;
        Ok(Self {
            id: keys::runner_id(&directory)?,
            name: settings.name(),
            keys: Keys::load_or_create(&directory)?,
            logs: LogQueue::new(),
            sources,
            environments: Environments::open(&directory, &settings)?,
            prober: Prober::new()?,
            memory: Memory::find()?,
            programs: launcher::install(&directory).context("writing the launcher")?,
            records,
            entries: Mutex::new(entries),
            board: watch::Sender::new(board),
            desired: watch::Sender::new(None),
            wake: Notify::new(),
            images: Mutex::default(),
            positions: Mutex::new(load_positions(&directory)),
            tasks: TaskTracker::new(),
            starts: Semaphore::new(STARTS_AT_ONCE),
            settings,
            directory,
            runtime,
            shutdown,
        })
    }

    /// What the control plane is told, and when it changes.
    pub fn board(&self) -> watch::Receiver<BTreeMap<Uuid, Report>> {
        self.board.subscribe()
    }

    /// What the control plane wants.
    pub fn set_desired(&self, answer: SyncResponse) {
        let known = self.desired.borrow().as_ref().map(|d| d.installation);
        if known != Some(answer.installation) {
            // For `remove_all` when nobody is there to ask.
            let path = self.directory.join("installation");
            if let Err(error) = record::replace(&path, answer.installation.to_string().as_bytes()) {
                tracing::warn!(%error, "the installation's id could not be saved");
            }
        }
        self.desired.send_replace(Some(answer));
    }

    /// The installation, once the control plane has said it.
    pub fn installation(&self) -> anyhow::Result<Uuid> {
        let desired = self.desired.borrow();
        let known = desired.as_ref().map(|desired| desired.installation);
        known.context("the control plane has not said which installation this is")
    }

    /// The runtime images, looked up now and then.
    pub async fn images(&self) -> Vec<Image> {
        if let Some((at, images)) = lock(&self.images).as_ref()
            && at.elapsed() < IMAGES_TTL
        {
            return images.clone();
        }
        match self.runtime.images().await {
            Ok(images) => {
                *lock(&self.images) = Some((Instant::now(), images.clone()));
                images
            }
            Err(error) => {
                tracing::warn!(%error, "the runtime images cannot be listed");
                Vec::new()
            }
        }
    }

    /// Their names.
    pub async fn image_names(&self) -> Vec<String> {
        let images = self.images().await;
        images.into_iter().map(|image| image.name).collect()
    }

    /// A writer to a stream of a deployment's log.
    pub fn log(&self, deployment: Uuid, stream: LogStream) -> LogWriter {
        let masker = lock(&self.entries)
            .get(&deployment)
            .map(|entry| Arc::clone(&entry.masker))
            .unwrap_or_default();
        self.logs.writer(deployment, stream, masker)
    }

    /// Hides these values in everything said of the deployment from now on.
    pub fn learn_secrets(&self, deployment: Uuid, secrets: &[String]) {
        if let Some(entry) = lock(&self.entries).get_mut(&deployment) {
            entry.masker = Arc::new(Masker::new(secrets.iter().map(String::as_str)));
        }
    }

    /// What is remembered of a deployment.
    pub fn record(&self, deployment: Uuid) -> Option<Record> {
        let entries = lock(&self.entries);
        entries.get(&deployment).map(|entry| entry.record.clone())
    }

    /// Changes what is remembered of a deployment, saves it, and tells everyone.
    pub fn update(&self, deployment: Uuid, change: impl FnOnce(&mut Record)) {
        let report = {
            let mut entries = lock(&self.entries);
            let Some(entry) = entries.get_mut(&deployment) else {
                return;
            };
            change(&mut entry.record);
            if let Err(error) = self.records.save(&entry.record) {
                tracing::error!(deployment.id = %deployment, %error, "a record could not be saved");
            }
            entry.record.report.clone()
        };
        self.board.send_if_modified(|board| {
            let old = board.insert(deployment, report.clone());
            old.as_ref() != Some(&report)
        });
        self.wake.notify_one();
    }

    /// Ends a deployment: says why in its log, and reports it.
    pub fn fail(&self, deployment: Uuid, diagnosis: Diagnosis) {
        let log = self.log(deployment, LogStream::Build);
        let diagnosis = Diagnosis {
            code: diagnosis.code,
            cause: log.mask(&diagnosis.cause),
            fix: log.mask(&diagnosis.fix),
            location: diagnosis.location,
        };
        let place = diagnosis
            .location
            .as_ref()
            .map(|location| format!(" ({location})"))
            .unwrap_or_default();
        log.line(format!("Failed: {}{place}", diagnosis.cause));
        log.line(format!("Next step: {}", diagnosis.fix));
        tracing::info!(deployment.id = %deployment, diagnosis.code = %diagnosis.code, "deployment failed");
        self.update(deployment, |record| {
            record.report.phase = Phase::Failed;
            record.report.upstream = None;
            record.report.diagnosis = Some(diagnosis);
            record.was_live = false;
        });
    }

    /// Its instance answers at `upstream`.
    pub fn mark_healthy(&self, deployment: Uuid) {
        if let Some(entry) = lock(&self.entries).get_mut(&deployment) {
            entry.checked = true;
            entry.healthy_since = Some(Instant::now());
        }
    }

    /// Its instance is not to be trusted before it is checked again. Returns how many restarts in
    /// a row this makes; one that was healthy for longer than `settled` begins anew.
    pub fn count_restart(&self, deployment: Uuid, settled: Duration) -> u32 {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.get_mut(&deployment) else {
            return 0;
        };
        entry.checked = false;
        let healthy = entry.healthy_since.take();
        if healthy.is_some_and(|since| since.elapsed() >= settled) {
            entry.restarts = 0;
        }
        entry.restarts += 1;
        entry.restarts - 1
    }

    /// Up to where the log of a deployment's instance was sent before this process began.
    pub fn position(&self, deployment: Uuid) -> i64 {
        lock(&self.positions)
            .sent
            .get(&deployment)
            .copied()
            .unwrap_or_default()
    }

    /// Takes note of lines that have arrived.
    pub fn lines_sent(&self, batch: &[LogLine]) {
        self.logs.sent(batch);
        let mut positions = lock(&self.positions);
        for line in batch {
            if line.stream == LogStream::Instance {
                let sent = positions.sent.entry(line.deployment).or_default();
                *sent = (*sent).max(line.sequence);
                positions.changed = true;
            }
        }
        drop(positions);
        self.save_positions();
    }

    /// Saves how far logs were sent, now and then.
    pub fn save_positions(&self) {
        let mut positions = lock(&self.positions);
        let is_due = positions
            .saved
            .is_none_or(|saved| saved.elapsed() >= POSITIONS_INTERVAL);
        if !positions.changed || !(is_due || self.shutdown.is_cancelled()) {
            return;
        }
        positions.changed = false;
        positions.saved = Some(Instant::now());
        let bytes = serde_json::to_vec(&positions.sent).expect("a map of numbers is JSON");
        drop(positions);
        if let Err(error) = record::replace(&self.directory.join("log-positions.json"), &bytes) {
            tracing::warn!(%error, "positions in logs could not be saved");
        }
    }

    fn seen(&self) -> BTreeMap<Uuid, Seen> {
        let entries = lock(&self.entries);
        entries
            .iter()
            .map(|(id, entry)| {
                let seen = Seen {
                    project: entry.record.project,
                    phase: Some(entry.record.report.phase),
                    built: entry
                        .record
                        .built
                        .as_ref()
                        .is_some_and(record::Built::is_there),
                    was_live: entry.record.was_live,
                    checked: entry.checked,
                    work: entry.work,
                };
                (*id, seen)
            })
            .collect()
    }

    /// Looks once and does what is to be done. Long work goes on in tasks.
    async fn look(self: &Arc<Self>, uploads: &Arc<dyn UploadSource>) -> anyhow::Result<()> {
        let Some(desired) = self.desired.borrow().clone() else {
            return Ok(());
        };
        // First what is being done, then what is there: a task that ends in between is then seen
        // as still at work, and looked at again when it wakes the loop.
        let deployments = self.seen();
        let (containers, networks) = tokio::try_join!(
            self.runtime.list(desired.installation),
            self.runtime.networks(desired.installation),
        )?;
        let observed = Observed {
            deployments,
            containers,
            networks,
        };
        let slots = usize::try_from(self.settings.build_slots).unwrap_or(1);
        for action in reconcile(&desired.desired, &observed, slots) {
            self.act(action, &desired, uploads).await;
        }
        Ok(())
    }

    /// Removes sources and environments that no deployment uses and that were not used lately.
    /// Only while nothing is worked on, so that nothing is removed that was just found.
    async fn clean(self: &Arc<Self>) {
        let mut keep = Vec::new();
        for entry in lock(&self.entries).values() {
            if entry.work.is_some() {
                return;
            }
            if let Some(built) = &entry.record.built {
                keep.push(built.source.clone());
                keep.push(built.environment.clone());
            }
        }
        let agent = Arc::clone(self);
        let cleaned = tokio::task::spawn_blocking(move || store::clean(&agent.directory, &keep));
        match cleaned.await {
            Ok(Ok(0)) => {}
            Ok(Ok(removed)) => tracing::info!(removed, "unused sources and environments removed"),
            Ok(Err(error)) => tracing::warn!(%error, "unused sources could not be removed"),
            Err(error) => tracing::error!(%error, "removing unused sources ended early"),
        }
    }

    async fn act(
        self: &Arc<Self>,
        action: Action,
        desired: &SyncResponse,
        uploads: &Arc<dyn UploadSource>,
    ) {
        tracing::debug!(?action, "acting");
        let spec = |deployment: Uuid| {
            let specs = &desired.desired;
            specs
                .iter()
                .find(|spec| spec.deployment == deployment)
                .cloned()
        };
        match action {
            Action::StartBuild(deployment) => {
                if let Some(spec) = spec(deployment) {
                    let uploads = Arc::clone(uploads);
                    self.begin(spec, Work::Build, |agent, spec, cancel| async move {
                        if pipeline::build(&agent, &spec, uploads.as_ref(), &cancel).await {
                            // The next step is known; the slot is free for another build.
                            agent.go_on(spec.deployment, Work::Start);
                            instance::start(&agent, &spec, &cancel).await;
                        }
                    });
                }
            }
            Action::StartInstance(deployment) => {
                if let Some(spec) = spec(deployment) {
                    self.begin(spec, Work::Start, |agent, spec, cancel| async move {
                        instance::start(&agent, &spec, &cancel).await;
                    });
                }
            }
            Action::RestartInstance(deployment) => {
                if let Some(spec) = spec(deployment) {
                    self.begin(spec, Work::Start, |agent, spec, cancel| async move {
                        instance::restart(&agent, &spec, &cancel).await;
                    });
                }
            }
            Action::AdoptInstance {
                deployment,
                container,
            } => {
                if let Some(spec) = spec(deployment) {
                    self.begin(spec, Work::Start, |agent, spec, cancel| async move {
                        instance::adopt(&agent, &spec, container, &cancel).await;
                    });
                }
            }
            Action::StopInstance {
                deployment,
                container,
            } => self.begin_stop(deployment, container),
            Action::Cancel(deployment) => {
                if let Some(entry) = lock(&self.entries).get(&deployment) {
                    entry.cancel.cancel();
                }
            }
            Action::MarkStopped(deployment) => self.mark_stopped(deployment, spec(deployment)),
            Action::RemoveContainer(id) => said(self.runtime.remove(&id).await, "a container"),
            Action::RemoveNetwork(id) => said(self.runtime.remove_network(&id).await, "a network"),
            Action::Forget(deployment) => self.forget(deployment, desired.installation),
        }
    }

    /// Begins to work on a deployment, in a task that always ends by saying so.
    fn begin<F, W>(self: &Arc<Self>, spec: DeploymentSpec, work: Work, job: F)
    where
        F: FnOnce(Arc<Self>, DeploymentSpec, CancellationToken) -> W,
        W: Future<Output = ()> + Send + 'static,
    {
        let cancel = CancellationToken::new();
        {
            let mut entries = lock(&self.entries);
            let entry = entries
                .entry(spec.deployment)
                .or_insert_with(|| Entry::new(Record::new(spec.deployment, spec.project)));
            entry.work = Some(work);
            entry.cancel = cancel.clone();
        }
        let done = WorkDone {
            agent: Arc::clone(self),
            deployment: spec.deployment,
        };
        let job = job(Arc::clone(self), spec, cancel);
        self.tasks.spawn(async move {
            let done = done;
            job.await;
            drop(done);
        });
    }

    /// The work on a deployment has come to its next step.
    fn go_on(&self, deployment: Uuid, work: Work) {
        if let Some(entry) = lock(&self.entries).get_mut(&deployment) {
            entry.work = Some(work);
        }
        self.wake.notify_one();
    }

    fn begin_stop(self: &Arc<Self>, deployment: Uuid, container: String) {
        let is_known = {
            let mut entries = lock(&self.entries);
            let entry = entries.get_mut(&deployment);
            entry.map(|entry| entry.work = Some(Work::Stop)).is_some()
        };
        let done = is_known.then(|| WorkDone {
            agent: Arc::clone(self),
            deployment,
        });
        let agent = Arc::clone(self);
        self.tasks.spawn(async move {
            instance::stop(&agent, deployment, &container).await;
            drop(done);
        });
    }

    fn mark_stopped(&self, deployment: Uuid, spec: Option<DeploymentSpec>) {
        if let Some(spec) = spec {
            lock(&self.entries)
                .entry(deployment)
                .or_insert_with(|| Entry::new(Record::new(deployment, spec.project)));
        }
        self.update(deployment, |record| {
            record.report.phase = Phase::Stopped;
            record.report.upstream = None;
            record.was_live = false;
        });
    }

    fn forget(&self, deployment: Uuid, installation: Uuid) {
        lock(&self.entries).remove(&deployment);
        if let Err(error) = self.records.remove(deployment) {
            tracing::warn!(deployment.id = %deployment, %error, "a record could not be removed");
        }
        self.memory.remove(installation, deployment);
        self.logs.forget(deployment);
        let mut positions = lock(&self.positions);
        positions.changed |= positions.sent.remove(&deployment).is_some();
        drop(positions);
        self.board
            .send_if_modified(|board| board.remove(&deployment).is_some());
    }
}

/// Says that a deployment is not worked on any more, however the work ended.
struct WorkDone<R: Runtime> {
    agent: Arc<Agent<R>>,
    deployment: Uuid,
}

impl<R: Runtime> Drop for WorkDone<R> {
    fn drop(&mut self) {
        if let Some(entry) = lock(&self.agent.entries).get_mut(&self.deployment) {
            entry.work = None;
        }
        self.agent.wake.notify_one();
    }
}

/// Looks, acts and waits for a change, until shutdown; then waits for the tasks to end.
pub async fn work<R: Runtime>(agent: &Arc<Agent<R>>, uploads: Arc<dyn UploadSource>) {
    let mut desired = agent.desired.subscribe();
    let listener = Arc::clone(agent);
    agent.tasks.spawn(async move { listen(&listener).await });
    let mut engine_away = false;
    let mut cleaned: Option<Instant> = None;
    while !agent.shutdown.is_cancelled() {
        desired.mark_unchanged();
        let wait = match agent.look(&uploads).await {
            Ok(()) => {
                if engine_away {
                    tracing::info!("the container engine is back");
                }
                engine_away = false;
                LOOK_INTERVAL
            }
            Err(error) => {
                if !engine_away {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "the container engine does not answer"
                    );
                }
                engine_away = true;
                ENGINE_RETRY
            }
        };
        if cleaned.is_none_or(|at| at.elapsed() >= CLEAN_INTERVAL) {
            cleaned = Some(Instant::now());
            agent.clean().await;
        }
        tokio::select! {
            () = agent.wake.notified() => {}
            _ = desired.changed() => {}
            () = tokio::time::sleep(wait) => {}
            () = agent.shutdown.cancelled() => {}
        }
    }
    agent.tasks.close();
    agent.tasks.wait().await;
}

/// Wakes the loop when the engine says that something happened.
async fn listen<R: Runtime>(agent: &Arc<Agent<R>>) {
    let mut desired = agent.desired.subscribe();
    let listen = async {
        loop {
            let Ok(installation) = desired
                .wait_for(Option::is_some)
                .await
                .map(|desired| desired.as_ref().map(|desired| desired.installation))
            else {
                return;
            };
            let Some(installation) = installation else {
                continue;
            };
            let mut events = agent.runtime.events(installation);
            while let Some(Ok(_)) = events.next().await {
                agent.wake.notify_one();
            }
            // What happened meanwhile was missed.
            tokio::time::sleep(ENGINE_RETRY).await;
            agent.wake.notify_one();
        }
    };
    tokio::select! {
        () = listen => {}
        () = agent.shutdown.cancelled() => {}
    }
}

fn said<E: std::fmt::Display>(result: Result<(), E>, what: &str) {
    if let Err(error) = result {
        // Tried again at the next look.
        tracing::warn!(%error, "{what} could not be removed");
    }
}

fn load_positions(directory: &std::path::Path) -> Positions {
    let read = std::fs::read(directory.join("log-positions.json"));
    Positions {
        // Without it some lines are sent again, and recognised.
        sent: read
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default(),
        ..Positions::default()
    }
}

/// Makes a directory that only the runner's user can enter: what tenants write is below it.
fn private_directory(path: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("making {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
    Ok(())
}

/// A task that panicked leaves nothing half-done behind these locks: every change is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
