//! What the control plane asks beside deployments: plans of sources that nobody has built yet, and
//! the text of locks. Asked again until it is answered.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::agent::Agent;
use crate::build::archive;
use crate::build::catalogue;
use crate::build::container::Failure;
use crate::build::dockerfile::Offer;
use crate::build::halt::{self, Halt};
use crate::build::language::plan_source;
use crate::build::plan::FileTree;
use crate::build::source::{FETCH_TIMEOUT, SourceTree};
use crate::diagnose::{self, Code};
use crate::protocol::{
    BuildSettings, Diagnosis, LogStream, Package, Plan, PlanAnswer, PlanRequest, Source,
};
use crate::runtime::Runtime;
use crate::sync::Control;

/// Plans made at once: each may fetch a whole repository.
const PLANS_AT_ONCE: usize = 2;
/// Longest planning of a source that is here: the largest take seconds, and others wait.
const PLAN_TIMEOUT: Duration = Duration::from_mins(1);
/// Before a question that could not be answered is looked at again.
const RETRY: Duration = Duration::from_secs(1);

/// Answers until shutdown.
pub async fn answer<R: Runtime>(control: &Control, agent: &Arc<Agent<R>>) {
    let mut desired = agent.desired.subscribe();
    let turns = Arc::new(Semaphore::new(PLANS_AT_ONCE));
    let working = Arc::new(Mutex::new(BTreeSet::<Uuid>::new()));
    loop {
        tokio::select! {
            changed = desired.changed() => if changed.is_err() { return },
            () = agent.shutdown.cancelled() => return,
        }
        let (plans, locks) = match desired.borrow_and_update().as_ref() {
            Some(answer) => (answer.plans.clone(), answer.wanted_locks.clone()),
            None => continue,
        };
        for lock in locks {
            send_lock(control, agent, &lock).await;
        }
        for request in plans {
            if !lock(&working).insert(request.id) {
                continue;
            }
            let (control, working) = (control.clone(), Arc::clone(&working));
            let (owner, turns) = (Arc::clone(agent), Arc::clone(&turns));
            agent.tasks.spawn(async move {
                let work = async {
                    let _turn = turns.acquire().await;
                    let answer = plan_of(&owner, &control, &request).await;
                    if let Err(error) = control.planned(&answer).await {
                        tracing::warn!(error = format!("{error:#}"), "a plan could not be sent");
                        tokio::time::sleep(RETRY).await;
                    }
                };
                owner.shutdown.run_until_cancelled(work).await;
                lock(&working).remove(&request.id);
            });
        }
    }
}

/// Plans what `berth deploy PATH` would send: a tar archive, unpacked by the same rules as on a
/// runner. `images` are the runtime images to choose from.
pub fn plan_archive(
    archive: impl std::io::Read,
    entrypoint: Option<&str>,
    settings: &BuildSettings,
    images: &[String],
) -> anyhow::Result<Result<Plan, Diagnosis>> {
    let directory = tempfile::tempdir()?;
    if let Err(refusal) = archive::extract(archive, directory.path()) {
        return Ok(Err(diagnose::from_archive_refusal(
            &refusal,
            Code::ArchiveCorrupt,
        )));
    }
    let tree = FileTree::open(directory.path())?;
    // What may be pulled is for the runner to say, and is asked there.
    let offer = Offer { images, pull: &[] };
    let planned = plan_source(&tree, entrypoint, settings, offer, &Halt::default());
    Ok(planned.map(|planned| planned.plan().clone()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn plan_of<R: Runtime>(
    agent: &Agent<R>,
    control: &Control,
    request: &PlanRequest,
) -> PlanAnswer {
    let mut answer = PlanAnswer {
        id: request.id,
        commit: None,
        plan: None,
        diagnosis: None,
    };
    let planned = match &request.source {
        Source::Package(package) => plan_package(agent, package, request).await,
        source => {
            let deadline = Instant::now() + FETCH_TIMEOUT;
            let fetched = agent
                .sources
                .obtain_saying(source, control, Arc::new(|_| ()), deadline)
                .await;
            match fetched {
                Ok(tree) => {
                    answer.commit = Some(tree.commit.clone());
                    plan_tree(agent, tree, request).await
                }
                Err(diagnosis) => Err(diagnosis),
            }
        }
    };
    match planned {
        Ok(plan) => answer.plan = Some(plan),
        Err(diagnosis) => answer.diagnosis = Some(diagnosis),
    }
    answer
}

async fn plan_tree<R: Runtime>(
    agent: &Agent<R>,
    tree: SourceTree,
    request: &PlanRequest,
) -> Result<Plan, Diagnosis> {
    let images = agent.image_names().await;
    let (entrypoint, settings) = (request.entrypoint.clone(), request.build.clone());
    let pull = agent.settings.pull_images.clone();
    let deadline = tokio::time::Instant::now() + PLAN_TIMEOUT;
    let planned = halt::bounded(deadline, &agent.shutdown, move |halt| {
        let tree = FileTree::open(&tree.path).map_err(|error| {
            diagnose::platform_failure(format!("The source cannot be read: {error}."))
        })?;
        let offer = Offer {
            images: &images,
            pull: &pull,
        };
        plan_source(&tree, entrypoint.as_deref(), &settings, offer, halt)
    });
    let planned = planned.await.map_err(|failure| match failure {
        Failure::TimedOut => diagnose::build_timeout(PLAN_TIMEOUT.as_secs()),
        other => {
            diagnose::platform_failure(format!("The runner failed while planning: {other:?}."))
        }
    })?;
    planned.map(|planned| planned.plan().clone())
}

/// A package of a registry has nothing to fetch.
async fn plan_package<R: Runtime>(
    agent: &Agent<R>,
    package: &Package,
    request: &PlanRequest,
) -> Result<Plan, Diagnosis> {
    let images = agent.image_names().await;
    let asked = catalogue::Asked {
        package,
        entrypoint: request.entrypoint.as_deref(),
        settings: &request.build,
        images: &images,
    };
    catalogue::plan(&asked, &request.id.to_string()).map(|planned| planned.plan)
}

/// Sends a lock, unless it holds a secret of its deployment: locks are shown to everyone who may
/// see the project.
async fn send_lock<R: Runtime>(control: &Control, agent: &Agent<R>, sha256: &str) {
    let Some((deployment, path)) = agent.lock_of(sha256) else {
        return;
    };
    let Ok(text) = tokio::fs::read_to_string(&path).await else {
        tracing::debug!(path = %path.display(), "a lock is gone");
        return;
    };
    if agent.log(deployment, LogStream::Build).mask(&text) != text {
        tracing::info!(deployment.id = %deployment, "a lock holds a secret and is not sent");
        return;
    }
    if let Err(error) = control.lock(sha256, text).await {
        tracing::warn!(error = format!("{error:#}"), "a lock could not be sent");
    }
}
