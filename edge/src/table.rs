//! Host → project, from the control plane's snapshot: immutable, swapped whole.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use uuid::Uuid;

use crate::directory::Directory;
use crate::protocol::RouteSnapshot;
use crate::site::{Door, Site};

/// The table in use.
#[derive(Debug)]
pub(crate) struct Routes {
    table: ArcSwap<Table>,
    /// The version in use, `None` before the first snapshot; tells waiting requests of a change.
    version: watch::Sender<Option<i64>>,
    /// Makes a swap see the table that the one before left.
    swapping: Mutex<()>,
}

/// One snapshot, ready to serve.
#[derive(Debug, Default)]
struct Table {
    sites: HashMap<Box<str>, Arc<Site>>,
}

impl Routes {
    /// An empty table.
    pub(crate) fn new() -> Self {
        Self {
            table: ArcSwap::default(),
            version: watch::Sender::new(None),
            swapping: Mutex::default(),
        }
    }

    /// The project at `host` (lower case, without port).
    pub(crate) fn find(&self, host: &str) -> Option<Arc<Site>> {
        self.table.load().sites.get(host).cloned()
    }

    /// Every project, each once.
    pub(crate) fn sites(&self) -> Vec<Arc<Site>> {
        self.table.load().main_sites().cloned().collect()
    }

    /// Whether `site` is of the routes in use.
    pub(crate) fn hold(&self, site: &Site) -> bool {
        let table = self.table.load();
        let any = table.sites.values().next();
        // All sites of a table share one.
        any.is_some_and(|any| Arc::ptr_eq(&any.directory, &site.directory))
    }

    /// What the routes in use say of a project.
    pub(crate) fn find_project(&self, project: Uuid) -> Option<Arc<Site>> {
        let table = self.table.load();
        let mut sites = table.main_sites();
        sites.find(|site| site.project.id == project).cloned()
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

    /// Whether `snapshot` is older than the one in use.
    pub(crate) fn is_older(&self, snapshot: &RouteSnapshot) -> bool {
        self.version().is_some_and(|now| snapshot.version < now)
    }

    /// Puts `snapshot` in use whatever its version: what the control plane says first counts more
    /// than what an earlier run left on disk.
    pub(crate) fn reset(&self, snapshot: &RouteSnapshot) {
        let _one_at_a_time = self.swapping.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace(snapshot);
    }

    fn replace(&self, snapshot: &RouteSnapshot) {
        let now = Arc::new(Table::new(snapshot, &self.table.load()));
        let before = self.table.swap(Arc::clone(&now));
        let by_project: HashMap<Uuid, &Site> = now
            .main_sites()
            .map(|site| (site.project.id, &**site))
            .collect();
        for Site { project, .. } in before.main_sites().map(|site| &**site) {
            project
                .streams
                .end_withdrawn(by_project.get(&project.id).copied());
        }
        self.version.send_replace(Some(snapshot.version));
    }
}

impl Table {
    /// Every project, each once.
    fn main_sites(&self) -> impl Iterator<Item = &Arc<Site>> {
        self.sites.values().filter(|site| site.door == Door::Main)
    }

    /// Builds the table for `snapshot`; projects, connections and what is remembered of tokens are
    /// kept as `before` has them.
    fn new(snapshot: &RouteSnapshot, before: &Table) -> Self {
        // All sites of a table share one.
        let directory = before.sites.values().next().map(|site| &*site.directory);
        let directory = Arc::new(Directory::new(snapshot, directory));
        let kept: HashMap<Uuid, &Site> = before
            .sites
            .values()
            .map(|site| (site.project.id, site.as_ref()))
            .collect();
        let mut sites = HashMap::with_capacity(snapshot.routes.len() * 2);
        let mut key_sites = Vec::with_capacity(snapshot.routes.len());
        for route in &snapshot.routes {
            let before = kept.get(&route.project).copied();
            match Site::new(snapshot.version, route, &directory, before) {
                Ok(site) => {
                    key_sites.push((&route.key_host, site.for_keys()));
                    sites.insert(route.host.to_ascii_lowercase().into(), Arc::new(site));
                }
                Err(error) => {
                    tracing::warn!(project.id = %route.project, error = format!("{error:#}"), "a route cannot be used");
                }
            }
        }
        for (host, site) in key_sites {
            // A project of that very name keeps it.
            sites
                .entry(host.to_ascii_lowercase().into())
                .or_insert_with(|| Arc::new(site));
        }
        Self { sites }
    }
}
