//! The loop: look at what is there, compare, act, until nothing differs. Deployments are worked
//! on by one task each at a time, and every change they make wakes the loop.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::agent::Agent;
use crate::build::dockerfile::steps;
use crate::build::pipeline;
use crate::build::source::UploadSource;
use crate::diagnose;
use crate::instance;
use crate::protocol::{DeploymentSpec, SyncResponse};
use crate::reconcile::{Action, Observed, Work, reconcile};
use crate::redis;
use crate::runtime::Runtime;
use crate::store;

/// How often the engine is looked at without being asked to: what an event told is seen at once,
/// and this catches what no event told.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);
/// How long to wait when the engine does not answer.
const ENGINE_RETRY: Duration = Duration::from_secs(2);
/// How often sources and environments that nothing uses are looked for.
const CLEAN_INTERVAL: Duration = Duration::from_hours(1);
/// How often volumes are measured whose size is only watched: their files are counted one by one.
const MEASURE_INTERVAL: Duration = Duration::from_mins(1);

/// Looks, acts and waits for a change, until shutdown; then waits for the tasks to end.
pub async fn work<R: Runtime>(agent: &Arc<Agent<R>>, uploads: Arc<dyn UploadSource>) {
    let mut desired = agent.desired.subscribe();
    let listener = Arc::clone(agent);
    agent.tasks.spawn(async move {
        let shutdown = listener.shutdown.clone();
        shutdown.run_until_cancelled(listen(&listener)).await;
    });
    let measurer = Arc::clone(agent);
    agent.tasks.spawn(async move {
        let shutdown = measurer.shutdown.clone();
        shutdown.run_until_cancelled(measure(&measurer)).await;
    });
    let mut is_engine_away = false;
    let mut cleaned: Option<Instant> = None;
    while !agent.shutdown.is_cancelled() {
        desired.mark_unchanged();
        let looked = look(agent, &uploads).await;
        let wait = match &looked {
            Ok(()) if is_engine_away => {
                tracing::info!("the container engine is back");
                LOOK_INTERVAL
            }
            Ok(()) => LOOK_INTERVAL,
            Err(error) if !is_engine_away => {
                let error = format!("{error:#}");
                tracing::error!(error, "the container engine does not answer");
                ENGINE_RETRY
            }
            Err(_) => ENGINE_RETRY,
        };
        is_engine_away = looked.is_err();
        if cleaned.is_none_or(|at| at.elapsed() >= CLEAN_INTERVAL) {
            cleaned = Some(Instant::now());
            clean(agent).await;
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

/// Looks once and does what is to be done. Long work goes on in tasks.
async fn look<R: Runtime>(
    agent: &Arc<Agent<R>>,
    uploads: &Arc<dyn UploadSource>,
) -> anyhow::Result<()> {
    let Some(desired) = agent.desired.borrow().clone() else {
        return Ok(());
    };
    // First what is being done, then what is there: a task that ends in between is then seen as
    // still at work, and looked at again when it wakes the loop.
    let (deployments, redis_work) = (agent.seen(), agent.redis_work());
    let (containers, networks) = tokio::try_join!(
        agent.runtime.list(desired.installation),
        agent.runtime.networks(desired.installation),
    )?;
    let observed = Observed {
        deployments,
        containers,
        networks,
        volumes: agent.volumes.projects(),
        redis_work,
    };
    let slots = usize::try_from(agent.settings.build_slots).unwrap_or(1);
    for action in reconcile(
        &desired.desired,
        &desired.removed_projects,
        &observed,
        slots,
    ) {
        tracing::debug!(?action, "acting");
        act(agent, action, &desired, uploads).await;
    }
    Ok(())
}

async fn act<R: Runtime>(
    agent: &Arc<Agent<R>>,
    action: Action,
    desired: &SyncResponse,
    uploads: &Arc<dyn UploadSource>,
) {
    let spec = |deployment: Uuid| -> Option<DeploymentSpec> {
        let mut specs = desired.desired.iter();
        specs.find(|spec| spec.deployment == deployment).cloned()
    };
    match action {
        Action::StartBuild(deployment) => {
            if let Some(spec) = spec(deployment) {
                let uploads = Arc::clone(uploads);
                begin(agent, spec, Work::Build, |agent, spec, cancel| async move {
                    if pipeline::build(&agent, &spec, uploads.as_ref(), &cancel).await {
                        // The next step is known, and the slot is free for another build.
                        agent.go_on(spec.deployment, Some(Work::Start));
                        instance::start(&agent, &spec, &cancel).await;
                    }
                });
            }
        }
        Action::ReuseBuild { deployment, from } => {
            if let Some(spec) = spec(deployment) {
                agent.reuse_build(deployment, spec.project, from);
            }
        }
        Action::StartInstance(deployment) => {
            if let Some(spec) = spec(deployment) {
                begin(agent, spec, Work::Start, |agent, spec, cancel| async move {
                    instance::start(&agent, &spec, &cancel).await;
                });
            }
        }
        Action::RestartInstance(deployment) => {
            if let Some(spec) = spec(deployment) {
                begin(agent, spec, Work::Start, |agent, spec, cancel| async move {
                    instance::restart(&agent, &spec, &cancel).await;
                });
            }
        }
        Action::AdoptInstance {
            deployment,
            container,
        } => {
            if let Some(spec) = spec(deployment) {
                begin(agent, spec, Work::Start, |agent, spec, cancel| async move {
                    instance::adopt(&agent, &spec, container, &cancel).await;
                });
            }
        }
        Action::StopInstance(container) => {
            agent.begin(container.deployment, container.project, Work::Stop);
            let at_work = AtWork::new(agent, container.deployment);
            agent.tasks.spawn(async move {
                instance::stop(&at_work.agent, &container).await;
            });
        }
        Action::StartRedis(project) => {
            see_to_redis(agent, project, |agent| async move {
                redis::bring_up(&agent, project).await;
            });
        }
        Action::StopRedis(container) => {
            see_to_redis(agent, container.project, |agent| async move {
                redis::stop(&agent, &container).await;
            });
        }
        Action::RemoveVolumes(project) => remove_volumes(agent, project).await,
        Action::Cancel(deployment) => agent.cancel(deployment),
        Action::MarkStopped(deployment) => {
            if let Some(spec) = spec(deployment) {
                agent.mark_stopped(deployment, spec.project);
            }
        }
        Action::RemoveContainer(id) => agent.runtime.discard(id),
        Action::RemoveNetwork(id) => {
            // Here and not in a task: nothing else of the project can begin meanwhile.
            if let Err(error) = agent.runtime.remove_network(&id).await {
                // Tried again at the next look.
                tracing::warn!(%error, "a network could not be removed");
            }
        }
        Action::Forget(deployment) => agent.forget(deployment, desired.installation),
    }
}

/// Begins to work on a deployment, in a task that always ends by saying so.
fn begin<R, W>(
    agent: &Arc<Agent<R>>,
    spec: DeploymentSpec,
    work: Work,
    job: impl FnOnce(Arc<Agent<R>>, DeploymentSpec, CancellationToken) -> W,
) where
    R: Runtime,
    W: Future<Output = ()> + Send + 'static,
{
    let cancel = agent.begin(spec.deployment, spec.project, work);
    let at_work = AtWork::new(agent, spec.deployment);
    let job = job(Arc::clone(agent), spec, cancel);
    agent.tasks.spawn(async move {
        if AssertUnwindSafe(job).catch_unwind().await.is_err() {
            // It would end in the same way again and again.
            let diagnosis = diagnose::platform_failure("The runner met an error of its own.");
            at_work.agent.fail(at_work.deployment, diagnosis);
        }
    });
}

/// Begins to work on a project's Redis, in a task that always ends by saying so.
fn see_to_redis<R, W>(agent: &Arc<Agent<R>>, project: Uuid, job: impl FnOnce(Arc<Agent<R>>) -> W)
where
    R: Runtime,
    W: Future<Output = ()> + Send + 'static,
{
    if !agent.begin_redis(project) {
        return;
    }
    let job = job(Arc::clone(agent));
    let agent = Arc::clone(agent);
    let tasks = agent.tasks.clone();
    tasks.spawn(async move {
        if AssertUnwindSafe(job).catch_unwind().await.is_err() {
            tracing::error!(project.id = %project, "seeing to a Redis ended early");
        }
        agent.end_redis(project);
    });
}

/// Here and not in a task: nothing else of the project can begin meanwhile.
async fn remove_volumes<R: Runtime>(agent: &Agent<R>, project: Uuid) {
    let volumes = Arc::clone(&agent.volumes);
    let removed = tokio::task::spawn_blocking(move || volumes.remove(project)).await;
    match removed {
        Ok(Ok(())) => tracing::info!(project.id = %project, "persistent files removed"),
        // Tried again at the next look.
        Ok(Err(error)) => {
            let error = format!("{error:#}");
            tracing::warn!(project.id = %project, error, "persistent files could not be removed");
        }
        Err(error) => tracing::error!(%error, "removing persistent files ended early"),
    }
}

/// Measures the volumes that have no file system of their own, until shutdown.
async fn measure<R: Runtime>(agent: &Agent<R>) {
    loop {
        let volumes = Arc::clone(&agent.volumes);
        if let Err(error) = tokio::task::spawn_blocking(move || volumes.measure()).await {
            tracing::error!(%error, "measuring volumes ended early");
        }
        tokio::time::sleep(MEASURE_INTERVAL).await;
    }
}

/// Says that a deployment is not worked on any more, however the work ended.
struct AtWork<R: Runtime> {
    agent: Arc<Agent<R>>,
    deployment: Uuid,
}

impl<R: Runtime> AtWork<R> {
    fn new(agent: &Arc<Agent<R>>, deployment: Uuid) -> Self {
        Self {
            agent: Arc::clone(agent),
            deployment,
        }
    }
}

impl<R: Runtime> Drop for AtWork<R> {
    fn drop(&mut self) {
        self.agent.go_on(self.deployment, None);
    }
}

/// Wakes the loop when the engine says that something happened.
async fn listen<R: Runtime>(agent: &Agent<R>) {
    let mut desired = agent.desired.subscribe();
    loop {
        if desired.wait_for(Option::is_some).await.is_err() {
            return;
        }
        if let Ok(installation) = agent.installation() {
            let mut events = agent.runtime.events(installation);
            while let Some(Ok(_)) = events.next().await {
                agent.wake.notify_one();
            }
        }
        // What happened meanwhile was missed.
        tokio::time::sleep(ENGINE_RETRY).await;
        agent.wake.notify_one();
    }
}

/// Removes sources and environments that no deployment uses and that were not used lately. Only
/// while nothing is worked on, so that nothing is removed that was just found.
async fn clean<R: Runtime>(agent: &Agent<R>) {
    let Some(keep) = agent.in_use() else {
        return;
    };
    let directory = agent.directory.clone();
    let cleaned = tokio::task::spawn_blocking(move || store::clean(&directory, &keep)).await;
    if let Ok(installation) = agent.installation() {
        agent.systems.clean(&agent.runtime, installation).await;
        steps::clean(&agent.directory, &agent.runtime, installation).await;
    }
    match cleaned {
        Ok(Ok(0)) => {}
        Ok(Ok(removed)) => tracing::info!(removed, "unused sources and environments removed"),
        Ok(Err(error)) => tracing::warn!(%error, "unused sources could not be removed"),
        Err(error) => tracing::error!(%error, "removing unused sources ended early"),
    }
}
