//! Logs of a deployment: a page of lines, or a stream of them (`?follow=1`, server-sent events).

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use runner::protocol::LogStream;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::Caller;
use super::caller::Credential;
use super::problem::{ApiResult, Params};
use crate::app::App;
use crate::changes::Waiter;
use crate::deployments::{self, State as Life};
use crate::error::{Error, Result, invalid};
use crate::logs::{self, Search};
use crate::projects;

/// Comment lines keep proxies from closing a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Browsers drop an event without data.
const END: &str = "{}";

/// One look at least this often, so that a stream ends soon after its deployment did.
const LOOK: Duration = Duration::from_secs(5);

/// Query of the logs.
#[derive(Debug, serde::Deserialize)]
pub struct Query {
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    after: i64,
    #[serde(default)]
    follow: Option<String>,
    #[serde(default)]
    q: Option<String>,
}

fn stream_of(name: Option<&str>) -> Result<LogStream> {
    match name {
        None | Some("build") => Ok(LogStream::Build),
        Some("instance") => Ok(LogStream::Instance),
        Some(_) => Err(invalid(
            "stream",
            "There are two streams: build and instance.",
        )),
    }
}

/// `GET /projects/{project}/deployments/{deployment}/logs`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Path((project, deployment)): Path<(String, String)>,
    Params(query): Params<Query>,
) -> ApiResult<Response> {
    let which = stream_of(query.stream.as_deref())?;
    let search = Search::new(query.q.as_deref())?;
    let mut db = app.db.acquire().await?;
    let project = projects::get_for(&mut db, caller.user.id, &project)
        .await?
        .project;
    let deployment = deployments::get(&mut db, project.id, &deployment).await?;
    if query
        .follow
        .as_deref()
        .is_some_and(|f| f != "0" && f != "false")
    {
        drop(db);
        let follower = Follower {
            waiter: app.changes.subscribe(),
            app,
            person: caller.user.id,
            credential: caller.credential,
            project: project.id,
            deployment: deployment.id,
            stream: which,
            after: query.after,
            search,
            told: None,
        };
        let events = Sse::new(follower.events()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
        return Ok(([("x-accel-buffering", "no")], events).into_response());
    }
    let lines = logs::list_after(&mut db, deployment.id, which, query.after, &search).await?;
    Ok(Json(json!({ "lines": lines })).into_response())
}

/// One who follows a stream. Events: `line` (a line as JSON, its sequence as the event's id),
/// `state` (`{"state": …}`, at first and at every change), `end` (nothing more will come).
struct Follower {
    app: App,
    waiter: Waiter,
    person: Uuid,
    credential: Credential,
    project: Uuid,
    deployment: Uuid,
    stream: LogStream,
    after: i64,
    search: Search,
    told: Option<Life>,
}

impl Follower {
    fn events(self) -> impl Stream<Item = std::result::Result<Event, Infallible>> {
        let batches = stream::unfold(Some(self), |follower| async {
            let mut follower = follower?;
            let (events, more) = follower.next().await;
            Some((
                stream::iter(events.into_iter().map(Ok)),
                more.then_some(follower),
            ))
        });
        futures_util::StreamExt::flatten(batches)
    }

    /// The next events, and whether there may be more. A database that is away is waited for.
    async fn next(&mut self) -> (Vec<Event>, bool) {
        loop {
            match self.look().await {
                Ok((events, more)) if !events.is_empty() || !more => return (events, more),
                Err(Error::NotFound(_)) => {
                    return (vec![Event::default().event("end").data(END)], false);
                }
                Ok(_) | Err(_) => {
                    let topic = logs::topic(self.deployment);
                    self.waiter.changed(&topic, Instant::now() + LOOK).await;
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(Vec<Event>, bool)> {
        let mut db = self.app.db.acquire().await?;
        // Whoever lost their access since, or was signed out, does not see the next line.
        let now = self.app.clock.now();
        if !self.credential.still_works(&mut db, now).await? {
            return Err(Error::NotFound("session"));
        }
        projects::get_for(&mut db, self.person, &self.project.to_string()).await?;
        // State before lines: when it is final, the lines read after it are all there are.
        let deployment =
            deployments::get(&mut db, self.project, &self.deployment.to_string()).await?;
        // The end before the lines: what comes in between is looked at next time.
        let end = match self.search.text() {
            Some(_) => logs::last_sequence(&mut db, self.deployment, self.stream).await?,
            None => 0,
        };
        let (id, stream, after) = (self.deployment, self.stream, self.after);
        let lines = logs::list_after(&mut db, id, stream, after, &self.search).await?;
        let mut events = Vec::with_capacity(lines.len() + 2);
        for line in &lines {
            self.after = line.sequence;
            let data = serde_json::to_string(line)?;
            events.push(
                Event::default()
                    .event("line")
                    .id(line.sequence.to_string())
                    .data(data),
            );
        }
        if self.told != Some(deployment.state) {
            self.told = Some(deployment.state);
            let data = json!({ "state": deployment.state.name() }).to_string();
            events.push(Event::default().event("state").data(data));
        }
        let complete = i64::try_from(lines.len()).is_ok_and(|count| count < logs::PAGE);
        if complete {
            // What did not match is not looked at again.
            self.after = self.after.max(end);
        }
        let over = complete && self.is_over(deployment.state);
        if over {
            events.push(Event::default().event("end").data(END));
        }
        Ok((events, !over))
    }

    /// A build's log is whole once the deployment is live; an instance's once it has ended.
    fn is_over(&self, state: Life) -> bool {
        match self.stream {
            LogStream::Build => !state.is_pending(),
            LogStream::Instance => state.is_final(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_tokens::{self, NewToken};
    use crate::audit::Actor;
    use crate::deployments::{Deployment, Request};
    use crate::projects::Settings;
    use crate::testing;

    /// Whoever follows the build log of a deployment with an API token.
    fn follower(
        app: &App,
        person: Uuid,
        token: Uuid,
        deployment: &Deployment,
        search: Search,
    ) -> Follower {
        Follower {
            waiter: app.changes.subscribe(),
            app: app.clone(),
            person,
            credential: Credential::Token(token),
            project: deployment.project_id,
            deployment: deployment.id,
            stream: LogStream::Build,
            after: 0,
            search,
            told: None,
        }
    }

    #[tokio::test]
    async fn whoever_is_signed_out_sees_no_further_line() {
        let app = testing::app().await;
        let (owner, now) = (testing::owner(&app).await.id, app.clock.now());
        let actor = Actor::User(owner);
        let project = testing::project(&app, "hello").await;
        let mut db = app.db.acquire().await.unwrap();
        let settings = Settings {
            source_url: Some("https://git.example/you/hello.git".into()),
            ..Settings::default()
        };
        let project = projects::change(&mut db, &project, &settings, &actor, now)
            .await
            .unwrap();
        let deployment =
            deployments::queue(&mut db, &project, Request::default(), "api", &actor, now)
                .await
                .unwrap();
        let new = NewToken::for_everything(owner, "ci", None);
        let (token, _) = api_tokens::create(&mut db, new, &actor, now).await.unwrap();
        let mut follower = follower(&app, owner, token, &deployment, Search::default());
        let (events, more) = follower.next().await;
        assert_eq!((events.len(), more), (1, true), "the state");
        api_tokens::revoke(&mut db, owner, token, &actor, now)
            .await
            .unwrap();
        let (events, more) = follower.next().await;
        assert_eq!((events.len(), more), (1, false), "the end");
        // A session that has ended is as good as none.
        let session = Credential::Session(tower_sessions::session::Id(7));
        assert!(!session.still_works(&mut db, now).await.unwrap());
    }

    #[tokio::test]
    async fn r53_a_search_finds_text_in_any_case_and_follows() {
        let app = testing::app().await;
        let (owner, now) = (testing::owner(&app).await.id, app.clock.now());
        let actor = Actor::User(owner);
        let mut project = testing::project(&app, "hello").await;
        project.source_url = Some("https://git.example/you/hello.git".into());
        let mut db = app.db.acquire().await.unwrap();
        let deployment =
            deployments::queue(&mut db, &project, Request::default(), "api", &actor, now)
                .await
                .unwrap();
        let write = async |db: &mut sqlx::PgConnection, texts: &[&str]| {
            let first = logs::last_sequence(db, deployment.id, LogStream::Build)
                .await
                .unwrap();
            let lines: Vec<runner::protocol::LogLine> = (first + 1..)
                .zip(texts)
                .map(|(sequence, text)| runner::protocol::LogLine {
                    deployment: deployment.id,
                    stream: LogStream::Build,
                    sequence,
                    at: now,
                    text: (*text).to_owned(),
                })
                .collect();
            logs::append(db, &lines).await.unwrap();
        };
        write(
            &mut db,
            &["An Error", "fine", "100% _sure_", "another error"],
        )
        .await;
        for (text, found) in [
            ("error", &["An Error", "another error"][..]),
            ("% _", &["100% _sure_"]),
            ("nothing like it", &[]),
            (" ", &["An Error", "fine", "100% _sure_", "another error"]),
        ] {
            let search = Search::new(Some(text)).unwrap();
            let lines = logs::list_after(&mut db, deployment.id, LogStream::Build, 0, &search)
                .await
                .unwrap();
            let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
            assert_eq!(texts, found, "{text}");
        }
        assert!(Search::new(Some(&"x".repeat(201))).is_err());
        let new = NewToken::for_everything(owner, "ci", None);
        let (token, _) = api_tokens::create(&mut db, new, &actor, now).await.unwrap();
        let search = Search::new(Some("ERROR")).unwrap();
        let mut follower = follower(&app, owner, token, &deployment, search);
        let (events, _) = follower.next().await;
        assert_eq!(events.len(), 3, "two lines and the state");
        write(&mut db, &["fine again"]).await;
        let (events, more) = follower.look().await.unwrap();
        assert_eq!((events.len(), more, follower.after), (0, true, 5));
        write(&mut db, &["a third error"]).await;
        let (events, _) = follower.next().await;
        assert_eq!(events.len(), 1);
    }
}
