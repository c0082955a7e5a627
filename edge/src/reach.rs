//! Which instance a call goes to, and the wait for one that is starting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use http::request::Parts;

use crate::admit::{Call, session_id};
use crate::client::Client;
use crate::error::Refusal;
use crate::forward::Ready;
use crate::host;
use crate::limit::{Answer, Kind};
use crate::protocol::EdgeStep;
use crate::server::Edge;
use crate::session::Owner;
use crate::site::Site;
use crate::target::Target;

/// Pause between two attempts to reach it; a change of routes ends it early.
const RETRY: Duration = Duration::from_millis(200);

/// The same while there is no instance.
const TOLD_AGAIN: Duration = Duration::from_secs(1);

/// An instance and a connection to it, with the routes and the verdict on the caller under which
/// they were found.
pub(crate) struct Reached {
    pub(crate) site: Arc<Site>,
    pub(crate) call: Call,
    pub(crate) target: Arc<Target>,
    pub(crate) ready: Ready,
    /// The call's place among those that the instance is answering.
    pub(crate) answer: Answer,
}

/// Finds the instance for a call and a connection to it; holds the call while the instance cannot
/// be reached, from when it `began`. Each attempt goes by the routes of its moment.
pub(crate) async fn reach(
    edge: &Edge,
    client: &Client,
    mut site: Arc<Site>,
    mut call: Call,
    parts: &Parts,
    began: Instant,
) -> Result<Reached, Refusal> {
    let mut held = None;
    let mut seen = Some(site.version);
    loop {
        let known = |refusal: Refusal| refusal.caller(call.caller.clone());
        let chosen = choose(&site, &call.owner, parts).map_err(known)?.cloned();
        // The place is kept during the pause: an instance that drains is not stopped meanwhile.
        let (pause, _place) = if let Some(target) = chosen {
            // Before the connection: who has been sent to an instance depends on it.
            let answer = target.answering.begin();
            match obtain(edge, &target, seen).await {
                Some(Ok(ready)) => {
                    return Ok(Reached {
                        site,
                        call,
                        target,
                        ready,
                        answer,
                    });
                }
                Some(Err(error)) => {
                    tracing::debug!(project.id = %site.project.id, deployment.id = %target.deployment(), %error, "an instance cannot be reached yet");
                    (Some(RETRY), Some(answer))
                }
                None => (None, Some(answer)),
            }
        } else {
            // Told again while it goes on: a report may be lost.
            edge.wanted.note(site.project.id);
            (Some(TOLD_AGAIN), None)
        };
        if began.elapsed() >= edge.times.hold {
            tracing::warn!(project.id = %site.project.id, "an instance cannot be reached");
            return Err(known(starting()));
        }
        if held.is_none() {
            let place = site.project.usage.enter(Kind::Held);
            held = Some(place.ok_or_else(|| known(starting()))?);
        }
        if let Some(pause) = pause {
            Box::pin(edge.routes.changed(seen, pause)).await;
        }
        // Before the lookup: a change between the two is seen once more, rather than missed.
        seen = edge.routes.version();
        if let Some(now) = current(edge, parts)
            && !Arc::ptr_eq(&now, &site)
        {
            // Another policy, a withdrawn grant, another project of this name: who was let in by
            // the routes before may not be by these.
            call = Call::admit(&now, client, parts)?;
            site = now;
        }
    }
}

/// A kept connection to an instance, or a new one; `None` when the routes change first.
async fn obtain(edge: &Edge, target: &Target, seen: Option<i64>) -> Option<std::io::Result<Ready>> {
    match Ready::kept(&target.pool) {
        Some(ready) => Some(Ok(ready)),
        // Boxed: most calls do without, and would have to hold the room for it.
        None => Box::pin(connect(edge, target, seen)).await,
    }
}

/// Connects to an instance, unless the routes change first.
async fn connect(
    edge: &Edge,
    target: &Target,
    seen: Option<i64>,
) -> Option<std::io::Result<Ready>> {
    tokio::select! {
        biased;
        attempt = Ready::new(&target.pool) => Some(attempt),
        () = edge.routes.changed(seen, edge.times.hold) => None,
    }
}

/// The server does not take connections.
pub(crate) fn starting() -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The server is starting and does not take calls yet. Try again in a few seconds; if this goes on, look at its logs.",
    )
    .retry_after(5)
    .step(EdgeStep::NothingLive)
}

/// What the routes of this moment say of a request's host.
fn current(edge: &Edge, parts: &Parts) -> Option<Arc<Site>> {
    edge.routes.find(&host::name(parts).ok()?)
}

/// The instance that owns the session, else the live one; `None` while it starts.
fn choose<'a>(
    site: &'a Site,
    owner: &Owner,
    parts: &Parts,
) -> Result<Option<&'a Arc<Target>>, Refusal> {
    if let Owner::Deployment(deployment) = owner {
        return site.instance(*deployment).map(Some).ok_or_else(|| {
            if let Some(id) = session_id(parts) {
                site.project.sessions.forget(id);
            }
            Refusal::session_not_found()
        });
    }
    if site.starts() {
        return Ok(None);
    }
    site.live().map(Some).ok_or_else(|| {
        let why = if site.project.id == site.project.named {
            "Nothing is live in this project yet; deploy it first."
        } else {
            "Nothing of this preview is live; the page of its project says why."
        };
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why)
            .retry_after(10)
            .step(EdgeStep::NothingLive)
    })
}
