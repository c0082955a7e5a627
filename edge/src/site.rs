//! One of a project's hosts as of one snapshot, and what outlives snapshots.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use http::HeaderValue;
use url::Url;
use uuid::Uuid;

use crate::access::{Access, Passing, Rules};
use crate::directory::Directory;
use crate::limit::Usage;
use crate::metadata::{Challenges, Documents, UNADVERTISED};
use crate::protocol::{InstanceUse, Route, Upstream};
use crate::session::Sessions;
use crate::streams::Streams;
use crate::target::Target;

/// One of a project's hosts as of one snapshot.
#[derive(Debug)]
pub(crate) struct Site {
    /// The snapshot's.
    pub(crate) version: i64,
    /// What outlives snapshots.
    pub(crate) project: Arc<Project>,
    pub(crate) door: Door,
    pub(crate) access: Arc<Access>,
    pub(crate) directory: Arc<Directory>,
    /// The protected resource, and the audience of its tokens.
    pub(crate) resource: Arc<str>,
    /// The resource's host as a `Host` header: what instances are told at either door.
    pub(crate) public_host: HeaderValue,
    /// Whose web pages may call, as browsers write an `Origin`.
    pub(crate) origins: Arc<[Box<str>]>,
    /// Metadata and challenges, written once per snapshot; only where tokens are asked for.
    documents: Option<Documents>,
    live: Option<Arc<Target>>,
    /// Nothing is live, and something is about to be.
    starts: bool,
    draining: Vec<Arc<Target>>,
}

/// By which host a request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// The project's own.
    Main,
    /// The one that takes API tokens only.
    Keys,
}

/// What belongs to a project, or a preview, across snapshots.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) id: Uuid,
    /// What tokens name: of a preview, its project.
    pub(crate) named: Uuid,
    pub(crate) usage: Arc<Usage>,
    pub(crate) sessions: Sessions,
    /// What is open at the moment.
    pub(crate) streams: Arc<Streams>,
}

impl Project {
    /// One that nobody has called yet.
    pub(crate) fn new(id: Uuid, named: Uuid) -> Arc<Self> {
        Arc::new(Self {
            id,
            named,
            usage: Arc::default(),
            sessions: Sessions::default(),
            streams: Arc::default(),
        })
    }
}

impl Site {
    /// The site of `route` in the snapshot of this version; project and instances that `before` has
    /// are kept.
    pub(crate) fn new(
        version: i64,
        route: &Route,
        directory: &Arc<Directory>,
        before: Option<&Site>,
    ) -> anyhow::Result<Self> {
        let project = before.map_or_else(
            || Project::new(route.project, route.preview_of.unwrap_or(route.project)),
            |site| Arc::clone(&site.project),
        );
        let target = |upstream: &Upstream| {
            before
                .and_then(|site| site.target_like(upstream))
                .map_or_else(|| Target::new(upstream), |kept| Ok(Arc::clone(kept)))
        };
        let url = Url::parse(&route.resource)?;
        let origin = url.origin().ascii_serialization();
        let access = Access::new(route)?;
        let documents = match &access {
            Access::Platform(Rules { scope, .. }) => {
                let issuer = &directory.issuer;
                Some(Documents::new(route, &origin, issuer, scope.to_str()?)?)
            }
            Access::Public | Access::Tenant => None,
        };
        Ok(Self {
            version,
            project,
            door: Door::Main,
            access: Arc::new(access),
            directory: Arc::clone(directory),
            public_host: public_host(&url)?,
            origins: origins(route, &url, origin),
            documents,
            resource: route.resource.as_str().into(),
            live: route.live.as_ref().map(target).transpose()?,
            starts: route.starts && route.live.is_none(),
            draining: route
                .draining
                .iter()
                .map(target)
                .collect::<Result<_, _>>()?,
        })
    }

    /// The same project at its second host, where nothing leads to an authorization server.
    pub(crate) fn for_keys(&self) -> Self {
        Self {
            version: self.version,
            project: Arc::clone(&self.project),
            door: Door::Keys,
            access: Arc::clone(&self.access),
            directory: Arc::clone(&self.directory),
            resource: Arc::clone(&self.resource),
            public_host: self.public_host.clone(),
            origins: Arc::clone(&self.origins),
            documents: None,
            live: self.live.clone(),
            starts: self.starts,
            draining: self.draining.clone(),
        }
    }

    /// By which right a request for `path` may pass; `None` where nothing is served.
    pub(crate) fn passing(&self, path: &str) -> Option<Passing> {
        let passing = self.access.passing(path);
        match self.door {
            Door::Main => passing,
            Door::Keys => passing.filter(|passing| *passing == Passing::Checked),
        }
    }

    /// The metadata document at `path`.
    pub(crate) fn document(&self, path: &str) -> Option<&Bytes> {
        self.documents.as_ref()?.at(path)
    }

    /// What a client without a good token is told at `path`.
    pub(crate) fn challenges(&self, path: &str) -> &Challenges {
        self.documents
            .as_ref()
            .map_or(&UNADVERTISED, |documents| documents.challenges(path))
    }

    /// Where requests without an MCP session go.
    pub(crate) fn live(&self) -> Option<&Arc<Target>> {
        self.live.as_ref()
    }

    /// Whether a call waits for the first instance, or for one that was stopped.
    pub(crate) fn starts(&self) -> bool {
        self.starts
    }

    /// The instance of `deployment`, live or draining.
    pub(crate) fn instance(&self, deployment: Uuid) -> Option<&Arc<Target>> {
        self.targets()
            .find(|target| target.deployment() == deployment)
    }

    /// Replaced instances.
    pub(crate) fn draining(&self) -> &[Arc<Target>] {
        &self.draining
    }

    /// Who depends on each of the instances at the moment.
    pub(crate) fn uses(&self) -> Vec<InstanceUse> {
        let mut sessions = HashMap::new();
        self.project
            .sessions
            .count_live(Instant::now(), &mut sessions);
        let uses = self.targets().map(|target| InstanceUse {
            deployment: target.deployment(),
            sessions: sessions.get(&target.deployment()).copied().unwrap_or(0),
            requests: target.answering.count(),
        });
        uses.collect()
    }

    fn target_like(&self, upstream: &Upstream) -> Option<&Arc<Target>> {
        self.targets().find(|target| target.is(upstream))
    }

    /// Its instances, live and draining.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.live.iter().chain(&self.draining)
    }
}

/// Host and port of a resource as clients write them in `Host`.
fn public_host(resource: &Url) -> anyhow::Result<HeaderValue> {
    let host = resource.host_str().context("a resource names no host")?;
    let authority = match resource.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    Ok(HeaderValue::try_from(authority)?)
}

/// The project's own origin, that of its second host, and those that its owner named.
fn origins(route: &Route, resource: &Url, own: String) -> Arc<[Box<str>]> {
    let mut second = resource.clone();
    let second = second
        .set_host(Some(&route.key_host))
        .is_ok()
        .then(|| second.origin().ascii_serialization());
    std::iter::once(own)
        .chain(second)
        .chain(route.allowed_origins.iter().cloned())
        .map(String::into_boxed_str)
        .collect()
}
