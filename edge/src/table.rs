//! Host → project, from the control plane's snapshot: immutable, swapped whole.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use url::Url;
use uuid::Uuid;

use crate::auth::Verifier;
use crate::limit::Usage;
use crate::metadata::Documents;
use crate::pool::Pool;
use crate::protocol::{Policy, Route, RouteSnapshot, Upstream};
use crate::session::Sessions;

/// The table in use.
#[derive(Debug)]
pub(crate) struct Routes {
    table: ArcSwap<Table>,
    /// The version in use, `None` before the first snapshot; tells waiting requests of a change.
    version: watch::Sender<Option<i64>>,
    /// Makes a swap see the table that the one before left.
    swapping: Mutex<()>,
    tasks: TaskTracker,
}

/// One snapshot, ready to serve.
#[derive(Debug, Default)]
struct Table {
    sites: HashMap<Box<str>, Arc<Site>>,
}

/// A project's host as of one snapshot.
#[derive(Debug)]
pub(crate) struct Site {
    /// What outlives snapshots.
    pub(crate) project: Arc<Project>,
    pub(crate) policy: Policy,
    /// The protected resource, and the audience of its tokens.
    pub(crate) resource: String,
    /// Scheme, host and port of the resource, as a browser writes an `Origin`.
    pub(crate) origin: String,
    /// Metadata and challenges, written once per snapshot.
    pub(crate) documents: Documents,
    pub(crate) verifier: Arc<Verifier>,
    live: Option<Arc<Target>>,
    draining: Vec<Arc<Target>>,
}

/// What belongs to a project across snapshots.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) id: Uuid,
    pub(crate) usage: Arc<Usage>,
    pub(crate) sessions: Sessions,
}

/// One instance that can be called, with its connections.
#[derive(Debug)]
pub(crate) struct Target {
    upstream: Upstream,
    pub(crate) deployment_header: HeaderValue,
    pub(crate) commit_header: HeaderValue,
    pub(crate) pool: Arc<Pool>,
}

/// What became of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swap {
    /// It is in use now.
    Done,
    /// It is older than the one in use and was ignored.
    Older,
}

impl Routes {
    /// An empty table whose connections will run on `tasks`.
    pub(crate) fn new(tasks: TaskTracker) -> Self {
        Self {
            table: ArcSwap::default(),
            version: watch::Sender::new(None),
            swapping: Mutex::default(),
            tasks,
        }
    }

    /// The project at `host` (lower case, without port).
    pub(crate) fn find(&self, host: &str) -> Option<Arc<Site>> {
        self.table.load().sites.get(host).cloned()
    }

    /// The version in use.
    pub(crate) fn version(&self) -> Option<i64> {
        *self.version.borrow()
    }

    /// Waits until a snapshot other than `seen` is in use, for at most `longest`.
    pub(crate) async fn changed(&self, seen: Option<i64>, longest: Duration) {
        let mut version = self.version.subscribe();
        // Running out of time is an answer too: the caller looks at the table again.
        let _ = tokio::time::timeout(longest, version.wait_for(|now| *now != seen)).await;
    }

    /// Waits until there is a snapshot at all, for at most `longest`.
    pub(crate) async fn changed_from_nothing(&self, longest: Duration) {
        if self.version().is_none() {
            self.changed(None, longest).await;
        }
    }

    /// Puts `snapshot` in use unless it is older than the one that is.
    pub(crate) fn swap(&self, snapshot: &RouteSnapshot) -> Swap {
        let _one_at_a_time = self.swapping.lock().unwrap_or_else(PoisonError::into_inner);
        if self.version().is_some_and(|now| snapshot.version < now) {
            return Swap::Older;
        }
        self.replace(snapshot);
        Swap::Done
    }

    /// Puts `snapshot` in use whatever its version: what the control plane says first counts more
    /// than what an earlier run left on disk.
    pub(crate) fn reset(&self, snapshot: &RouteSnapshot) {
        let _one_at_a_time = self.swapping.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace(snapshot);
    }

    fn replace(&self, snapshot: &RouteSnapshot) {
        let table = Table::new(snapshot, &self.table.load(), &self.tasks);
        self.table.store(Arc::new(table));
        self.version.send_replace(Some(snapshot.version));
    }
}

impl Table {
    /// Builds the table for `snapshot`; projects and connections that `before` has are kept.
    fn new(snapshot: &RouteSnapshot, before: &Table, tasks: &TaskTracker) -> Self {
        let verifier = before
            .sites
            .values()
            // All sites of a table share one.
            .next()
            .map(|site| &site.verifier)
            .filter(|verifier| verifier.serves(snapshot))
            .map_or_else(|| Arc::new(Verifier::new(snapshot)), Arc::clone);
        let kept: HashMap<Uuid, &Site> = before
            .sites
            .values()
            .map(|site| (site.project.id, site.as_ref()))
            .collect();
        let mut sites = HashMap::with_capacity(snapshot.routes.len());
        for route in &snapshot.routes {
            let site = Site::new(
                route,
                &snapshot.issuer,
                &verifier,
                kept.get(&route.project).copied(),
                tasks,
            );
            match site {
                Ok(site) => {
                    sites.insert(route.host.to_ascii_lowercase().into(), Arc::new(site));
                }
                Err(error) => {
                    tracing::warn!(project.id = %route.project, error = format!("{error:#}"), "a route cannot be used");
                }
            }
        }
        Self { sites }
    }
}

impl Site {
    fn new(
        route: &Route,
        issuer: &str,
        verifier: &Arc<Verifier>,
        before: Option<&Site>,
        tasks: &TaskTracker,
    ) -> anyhow::Result<Self> {
        let project = before.map_or_else(
            || {
                Arc::new(Project {
                    id: route.project,
                    usage: Arc::default(),
                    sessions: Sessions::default(),
                })
            },
            |site| Arc::clone(&site.project),
        );
        let target = |upstream: &Upstream| {
            before
                .and_then(|site| site.target_like(upstream))
                .map_or_else(
                    || Target::new(upstream, tasks.clone()),
                    |kept| Ok(Arc::clone(kept)),
                )
        };
        Ok(Self {
            project,
            policy: route.policy.clone(),
            origin: Url::parse(&route.resource)?.origin().ascii_serialization(),
            documents: Documents::new(route, issuer)?,
            resource: route.resource.clone(),
            verifier: Arc::clone(verifier),
            live: route.live.as_ref().map(target).transpose()?,
            draining: route
                .draining
                .iter()
                .map(target)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Where requests without an MCP session go.
    pub(crate) fn live(&self) -> Option<&Arc<Target>> {
        self.live.as_ref()
    }

    /// The instance of `deployment`, live or draining.
    pub(crate) fn instance(&self, deployment: Uuid) -> Option<&Arc<Target>> {
        self.targets()
            .find(|target| target.upstream.deployment == deployment)
    }

    fn target_like(&self, upstream: &Upstream) -> Option<&Arc<Target>> {
        self.targets().find(|target| target.upstream == *upstream)
    }

    fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.live.iter().chain(&self.draining)
    }
}

impl Target {
    fn new(upstream: &Upstream, tasks: TaskTracker) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            deployment_header: HeaderValue::try_from(upstream.deployment.to_string())?,
            commit_header: HeaderValue::try_from(upstream.commit.as_str())?,
            pool: Pool::new(upstream.address.clone(), tasks),
            upstream: upstream.clone(),
        }))
    }

    /// The deployment this instance runs.
    pub(crate) fn deployment(&self) -> Uuid {
        self.upstream.deployment
    }
}
