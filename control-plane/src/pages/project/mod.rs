//! The pages of one project.

mod access;
mod actions;
pub mod attempt;
mod build;
mod connect;
mod connections;
mod delete;
mod deployment;
mod follows;
mod github;
mod log;
mod previews;
mod revision;
mod settings;
mod show;
mod surface;
mod tools;
mod variables;

use axum::Router;
use axum::routing::{get, post};
use serde::Deserialize;
use time::{Duration, OffsetDateTime};

use sqlx::PgConnection;

use crate::app::App;
use crate::config::ServeConfig;
use crate::error::Result;
use crate::projects::{self, Membership, Project};
use crate::runners;

/// A runner that has not been heard of for this long is taken to be away. It syncs at least every
/// 20 s ([`runner::protocol::MAX_WAIT_MS`]).
const RUNNER_SILENCE: Duration = Duration::seconds(60);

/// Everything under `/projects`.
pub fn router() -> Router<App> {
    Router::new()
        .route("/projects/{project}", get(show::show))
        .route("/projects/{project}/status", get(show::status))
        .route("/projects/{project}/connect", get(connect::show))
        .route("/projects/{project}/deploy", post(actions::deploy))
        .route("/projects/{project}/rollback", post(actions::roll_back))
        .route(
            "/projects/{project}/previews/{preview}/approve",
            post(previews::approve),
        )
        .route(
            "/projects/{project}/previews/{preview}/deploy",
            post(previews::deploy),
        )
        .route(
            "/projects/{project}/previews/{preview}/close",
            post(previews::close),
        )
        .route("/projects/{project}/connections", get(connections::show))
        .route(
            "/projects/{project}/variables",
            get(variables::show).post(variables::set),
        )
        .route(
            "/projects/{project}/variables/standing",
            get(variables::standing),
        )
        .route(
            "/projects/{project}/variables/needed",
            post(variables::fill_in),
        )
        .route(
            "/projects/{project}/variables/import",
            post(variables::import),
        )
        .route(
            "/projects/{project}/variables/generate",
            post(variables::generate),
        )
        .route(
            "/projects/{project}/variables/remove",
            post(variables::remove),
        )
        .route(
            "/projects/{project}/settings",
            get(settings::show).post(settings::save),
        )
        .route(
            "/projects/{project}/github",
            get(github::show).post(github::save),
        )
        .route("/projects/{project}/github/connect", post(github::connect))
        .route(
            "/projects/{project}/github/disconnect",
            post(github::disconnect),
        )
        .route(
            "/projects/{project}/settings/comments",
            post(settings::set_comments),
        )
        .route(
            "/projects/{project}/build",
            get(build::show).post(build::save),
        )
        .route(
            "/projects/{project}/build/variables",
            post(build::set_variables),
        )
        .route(
            "/projects/{project}/build/variables/remove",
            post(build::remove_variable),
        )
        .route(
            "/projects/{project}/access",
            get(access::show).post(access::save),
        )
        .route(
            "/projects/{project}/delete",
            get(delete::show).post(delete::delete),
        )
        .route(
            "/projects/{project}/deployments/{deployment}",
            get(deployment::show),
        )
        .route(
            "/projects/{project}/deployments/{deployment}/facts",
            get(deployment::facts),
        )
        .route(
            "/projects/{project}/deployments/{deployment}/log.txt",
            get(log::raw),
        )
        .route(
            "/projects/{project}/deployments/{deployment}/lock.txt",
            get(deployment::lock),
        )
        .route(
            "/projects/{project}/deployments/{deployment}/cancel",
            post(actions::cancel),
        )
        .route(
            "/projects/{project}/deployments/{deployment}/promote",
            post(actions::promote),
        )
}

/// What the frame around a project's pages shows.
#[derive(Debug)]
pub struct Frame {
    name: String,
    url: String,
    may_change: bool,
    may_delete: bool,
    tab: &'static str,
}

impl Frame {
    fn new(config: &ServeConfig, member: &Membership, tab: &'static str) -> Self {
        Self {
            name: member.project.name.clone(),
            url: config.project_url(&member.project.name),
            may_change: projects::may_change(&member.role),
            may_delete: projects::may_delete(&member.role),
            tab,
        }
    }
}

impl Frame {
    /// The same with the address of a preview in place of the project's.
    fn at(self, config: &ServeConfig, preview: Option<&str>) -> Self {
        match preview {
            Some(slug) => Self {
                url: config.project_url(&crate::previews::label(&self.name, slug)),
                ..self
            },
            None => self,
        }
    }
}

/// Whether a button can deploy it. What came by `berth deploy PATH` can be deployed again from the
/// last archive, which the deployments tell.
fn can_deploy(project: &Project, deployed_before: bool) -> bool {
    project.source_url.is_some() || deployed_before
}

async fn runner_is_away(db: &mut PgConnection, now: OffsetDateTime) -> Result<bool> {
    Ok(!runners::any_since(db, now - RUNNER_SILENCE).await?)
}

/// A form that has nothing but its CSRF token.
#[derive(Debug, Deserialize)]
pub struct Nothing {}

/// `?seen=`: what a page that asks for news has already.
#[derive(Debug, Default, Deserialize)]
pub struct Seen {
    #[serde(default)]
    seen: String,
}
