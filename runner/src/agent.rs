//! What a runner is made of and what it knows. Everything known of a deployment is changed here,
//! saved, and put on the board, which is what the control plane is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::build::command;
use crate::build::container::BuildHost;
use crate::build::dockerfile::steps;
use crate::build::environment::Environments;
use crate::build::source::{SourceSettings, SourceStore};
use crate::build::system::{self, Systems};
use crate::config::{Config, Settings};
use crate::follow::Said;
use crate::health::Prober;
use crate::keys::{self, Keys};
use crate::launcher;
use crate::logs::{LogQueue, LogWriter, Masker, Positions};
use crate::protocol::{
    Diagnosis, Edit, LogLine, LogStream, Phase, Report, SyncResponse, VolumeKind,
};
use crate::reconcile::{Seen, Work};
use crate::record::{self, Built, Record, Records};
use crate::runtime::{Image, Runtime};
use crate::variables::Memory;
use crate::volumes::{self, Volumes};

/// How long the list of images is believed.
const IMAGES_TTL: Duration = Duration::from_secs(30);
/// Instances started at the same time. An engine starts a handful a second however many are asked
/// for, and those already starting should not wait for all the others.
const STARTS_AT_ONCE: usize = 4;

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
    /// How far they have come.
    pub positions: Positions,
    /// Sources on this machine.
    pub sources: SourceStore,
    /// Environments on this machine.
    pub environments: Environments,
    /// Images with system packages on this machine.
    pub systems: Systems,
    /// What build containers have on this machine.
    pub build_host: BuildHost,
    /// Asks instances what they offer.
    pub prober: Prober,
    /// Where variables are kept in memory.
    pub memory: Memory,
    /// The persistent files of projects.
    pub volumes: Arc<Volumes>,
    /// One project's Redis is started at a time.
    pub redis_starts: tokio::sync::Mutex<()>,
    /// The projects whose Redis is being started or stopped.
    redis_work: Mutex<BTreeSet<Uuid>>,
    /// The directory with the programs for containers.
    pub programs: PathBuf,
    /// What the control plane wants, once it has said it.
    pub desired: watch::Sender<Option<SyncResponse>>,
    /// Something changed: look again.
    pub wake: Notify,
    /// Every task of the runner.
    pub tasks: TaskTracker,
    /// Bounds the instances that are being started.
    pub starts: Semaphore,
    /// Ends everything.
    pub shutdown: CancellationToken,
    records: Records,
    entries: Mutex<BTreeMap<Uuid, Entry>>,
    board: watch::Sender<BTreeMap<Uuid, Report>>,
    images: Mutex<Option<(Instant, Vec<Image>)>>,
}

/// What is known of one deployment.
struct Entry {
    record: Record,
    work: Option<Work>,
    cancel: CancellationToken,
    /// Where this process has seen it healthy.
    checked: Option<IpAddr>,
    /// Restarts in a row.
    restarts: u32,
    healthy_since: Option<Instant>,
    /// What its instance has said since it was healthy.
    output: Option<(String, watch::Receiver<Said>)>,
    masker: Arc<Masker>,
}

impl Entry {
    fn new(record: Record) -> Self {
        Self {
            record,
            work: None,
            cancel: CancellationToken::new(),
            checked: None,
            restarts: 0,
            healthy_since: None,
            output: None,
            masker: Arc::default(),
        }
    }
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
        command::open(&directory)?;
        steps::open(&directory)?;
        let source_settings = SourceSettings {
            allow_file: settings.allow_file_sources,
            allow_private_addresses: settings.build_allow.clone(),
        };
        Ok(Self {
            id: keys::runner_id(&directory)?,
            name: settings.name(),
            keys: Keys::load_or_create(&directory)?,
            logs: LogQueue::new(),
            positions: Positions::load(directory.join("log-positions.json")),
            sources: SourceStore::new(directory.join("sources"), source_settings)?,
            environments: Environments::open(&directory)?,
            systems: Systems::open(&directory)?,
            build_host: BuildHost::new(&settings),
            prober: Prober::new()?,
            memory: Memory::find()?,
            volumes: Arc::new(Volumes::open(directory.join(volumes::DIRECTORY))?),
            redis_starts: tokio::sync::Mutex::default(),
            redis_work: Mutex::default(),
            programs: launcher::install(&directory).context("writing the launcher")?,
            desired: watch::Sender::new(None),
            wake: Notify::new(),
            tasks: TaskTracker::new(),
            starts: Semaphore::new(STARTS_AT_ONCE),
            records,
            entries: Mutex::new(entries),
            board: watch::Sender::new(board),
            images: Mutex::default(),
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

    /// Takes what the control plane wants.
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

    /// Finds or makes a volume; returns the directory to mount in a container.
    pub async fn volume(
        &self,
        project: Uuid,
        kind: VolumeKind,
        bytes: u64,
    ) -> anyhow::Result<PathBuf> {
        let volumes = Arc::clone(&self.volumes);
        let ensured =
            tokio::task::spawn_blocking(move || volumes.ensure(project, kind, bytes)).await;
        ensured
            .context("making a volume ended early")?
            .context("the persistent files are not there")
    }

    /// Notes that a project's Redis is being seen to; false when it already is.
    pub fn begin_redis(&self, project: Uuid) -> bool {
        lock(&self.redis_work).insert(project)
    }

    /// It is not any more.
    pub fn end_redis(&self, project: Uuid) {
        lock(&self.redis_work).remove(&project);
        self.wake.notify_one();
    }

    /// The projects whose Redis is being seen to.
    pub fn redis_work(&self) -> BTreeSet<Uuid> {
        lock(&self.redis_work).clone()
    }

    /// Takes note of lines that have arrived.
    pub fn lines_sent(&self, batch: &[LogLine]) {
        self.logs.sent(batch);
        self.positions.sent(batch);
        self.positions.save(false);
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

    /// A deployment that was installed from a lock, and where that lies.
    pub fn lock_of(&self, sha256: &str) -> Option<(Uuid, PathBuf)> {
        let entries = lock(&self.entries);
        entries.iter().find_map(|(id, entry)| {
            let built = entry.record.built.as_ref()?;
            let path = built.environment.with_extension("lock");
            (built.lock == sha256).then_some((*id, path))
        })
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
        let diagnosis = masked(&log, diagnosis);
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

    /// Takes over what was built for another deployment: its commit, its plan, its environment.
    pub fn reuse_build(&self, deployment: Uuid, project: Uuid, from: Uuid) {
        let Some(built) = self.record(from) else {
            return;
        };
        lock(&self.entries)
            .entry(deployment)
            .or_insert_with(|| Entry::new(Record::new(deployment, project)));
        self.log(deployment, LogStream::Build).line(
            "The build of the live deployment is used again: the same commit, the same packages. Nothing is fetched or installed.",
        );
        self.update(deployment, |record| {
            record.report.phase = Phase::Starting;
            record.report.commit = built.report.commit;
            record.report.plan = built.report.plan;
            record.report.lock = built.report.lock;
            record.built = built.built;
        });
    }

    /// Nothing of it runs any more.
    pub fn mark_stopped(&self, deployment: Uuid, project: Uuid) {
        if let Some(entry) = lock(&self.entries).get_mut(&deployment) {
            entry.checked = None;
            entry.output = None;
        } else {
            let entry = Entry::new(Record::new(deployment, project));
            lock(&self.entries).insert(deployment, entry);
        }
        self.update(deployment, |record| {
            if record.report.phase != Phase::Failed {
                record.report.phase = Phase::Stopped;
            }
            record.report.upstream = None;
            record.was_live = false;
        });
    }

    /// Its instance answers at this address.
    pub fn mark_healthy(&self, deployment: Uuid, address: IpAddr) {
        if let Some(entry) = lock(&self.entries).get_mut(&deployment) {
            entry.checked = Some(address);
            entry.healthy_since = Some(Instant::now());
        }
    }

    /// Keeps hold of what a healthy instance says, for the day it ends.
    pub fn keep_output(&self, deployment: Uuid, container: &str, said: watch::Receiver<Said>) {
        if let Some(entry) = lock(&self.entries).get_mut(&deployment) {
            entry.output = Some((container.to_owned(), said));
        }
    }

    /// Whether this is the healthy instance of a deployment.
    pub fn is_healthy_instance(&self, deployment: Uuid, container: &str) -> bool {
        let entries = lock(&self.entries);
        let output = entries
            .get(&deployment)
            .and_then(|entry| entry.output.as_ref());
        output.is_some_and(|(of, _)| of == container)
    }

    /// The last lines of an instance that was healthy, without secrets.
    pub fn last_output(&self, deployment: Uuid) -> Vec<String> {
        let said = lock(&self.entries)
            .get_mut(&deployment)
            .and_then(|entry| entry.output.take());
        let Some((_, said)) = said else {
            return Vec::new();
        };
        let log = self.log(deployment, LogStream::Instance);
        let said = said.borrow();
        // One that was taken over began to serve before anyone listened.
        let lines = if said.serving {
            &said.tail_serving
        } else {
            &said.tail
        };
        lines.iter().map(|line| log.mask(line)).collect()
    }

    /// Something went wrong with a live deployment: says it in its log and reports it.
    pub fn note(&self, deployment: Uuid, diagnosis: Diagnosis) {
        let log = self.log(deployment, LogStream::Instance);
        let diagnosis = masked(&log, diagnosis);
        log.line(diagnosis.cause.clone());
        tracing::info!(deployment.id = %deployment, diagnosis.code = %diagnosis.code, "a live deployment has trouble");
        self.update(deployment, |record| {
            record.report.diagnosis = Some(diagnosis);
        });
    }

    /// How many restarts in a row this one follows; one that was healthy for longer than
    /// `settled` begins anew.
    pub fn count_restart(&self, deployment: Uuid, settled: Duration) -> u32 {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.get_mut(&deployment) else {
            return 0;
        };
        let healthy = entry.healthy_since.take();
        if healthy.is_some_and(|since| since.elapsed() >= settled) {
            entry.restarts = 0;
        }
        entry.restarts += 1;
        entry.restarts - 1
    }

    /// Notes what is being done about a deployment; returns what calls it off.
    pub fn begin(&self, deployment: Uuid, project: Uuid, work: Work) -> CancellationToken {
        let mut entries = lock(&self.entries);
        let entry = entries
            .entry(deployment)
            .or_insert_with(|| Entry::new(Record::new(deployment, project)));
        entry.work = Some(work);
        entry.cancel = CancellationToken::new();
        if work == Work::Start {
            entry.checked = None;
        }
        entry.cancel.clone()
    }

    /// The work on a deployment has come to its next step, or to its end.
    pub fn go_on(&self, deployment: Uuid, work: Option<Work>) {
        if let Some(entry) = lock(&self.entries).get_mut(&deployment) {
            entry.work = work;
        }
        self.wake.notify_one();
    }

    /// Calls off what is being done about a deployment.
    pub fn cancel(&self, deployment: Uuid) {
        if let Some(entry) = lock(&self.entries).get(&deployment) {
            entry.cancel.cancel();
        }
    }

    /// Everything known, as the comparison needs it.
    pub fn seen(&self) -> BTreeMap<Uuid, Seen> {
        let entries = lock(&self.entries);
        let seen = |entry: &Entry| Seen {
            project: entry.record.project,
            phase: Some(entry.record.report.phase),
            built: entry.record.built.as_ref().is_some_and(Built::is_there),
            was_live: entry.record.was_live,
            checked: entry.checked,
            work: entry.work,
        };
        entries.iter().map(|(id, e)| (*id, seen(e))).collect()
    }

    /// The sources and environments that deployments use; `None` while one is worked on, because
    /// it may just have found another.
    pub fn in_use(&self) -> Option<Vec<PathBuf>> {
        let entries = lock(&self.entries);
        if entries.values().any(|entry| entry.work.is_some()) {
            return None;
        }
        let built = entries.values().filter_map(|e| e.record.built.as_ref());
        Some(
            built
                .flat_map(|built| {
                    let system = system::list_of(&self.directory, &built.image);
                    [built.source.clone(), built.environment.clone()]
                        .into_iter()
                        .chain(system)
                })
                .collect(),
        )
    }

    /// Forgets a deployment of which nothing is left.
    pub fn forget(&self, deployment: Uuid, installation: Uuid) {
        lock(&self.entries).remove(&deployment);
        if let Err(error) = self.records.remove(deployment) {
            tracing::warn!(deployment.id = %deployment, %error, "a record could not be removed");
        }
        self.memory.remove(installation, deployment);
        self.logs.forget(deployment);
        self.positions.forget(deployment);
        self.board
            .send_if_modified(|board| board.remove(&deployment).is_some());
    }
}

/// A diagnosis without the secrets that a quoted line may hold.
fn masked(log: &LogWriter, diagnosis: Diagnosis) -> Diagnosis {
    let mask = |text: Option<String>| text.map(|text| log.mask(&text));
    let edits = diagnosis.edits.into_iter().map(|edit| Edit {
        old: mask(edit.old),
        new: mask(edit.new),
        ..edit
    });
    Diagnosis {
        cause: log.mask(&diagnosis.cause),
        fix: log.mask(&diagnosis.fix),
        edits: edits.collect(),
        ..diagnosis
    }
}

/// Makes a directory that only the runner's user can enter: what tenants write is below it.
fn private_directory(path: &Path) -> anyhow::Result<()> {
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
