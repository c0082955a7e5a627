//! Runners: sync, log lines, uploads.

use std::time::Duration;

use anyhow::Context as _;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use runner::protocol::{
    DeploymentSpec, Goal, LogLine, MAX_WAIT_MS, PROTOCOL_VERSION, PlanAnswer, Report,
    RepositoryAccess, SyncRequest, SyncResponse,
};
use tokio::time::Instant;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::InternalError;
use crate::access::Mode;
use crate::app::App;
use crate::db::{Changed, version};
use crate::deployments::{self, LEASE};
use crate::error::{Error, Result};
use crate::github::{Failure, installations, links, tokens};
use crate::runners::{self, Before, Presence};
use crate::{
    build_settings, build_variables, locks, logs as lines, plans, previews, uploads, variables,
    volumes,
};

/// Takes over what the runner observed and answers what it should have, held while that is what
/// it knows already.
pub async fn sync(
    State(app): State<App>,
    Json(request): Json<SyncRequest>,
) -> Result<Json<SyncResponse>, InternalError> {
    if request.protocol != PROTOCOL_VERSION {
        return Err(Error::Conflict(format!(
            "This runner speaks protocol {}, the control plane {PROTOCOL_VERSION}; upgrade the older of the two.",
            request.protocol
        ))
        .into());
    }
    let wait = Duration::from_millis(u64::from(request.wait_ms.min(MAX_WAIT_MS)));
    let deadline = Instant::now() + wait;
    let mut waiter = app.changes.subscribe();
    let before = take_over(&app, &request).await?;
    let now = app.clock.now();
    let present = before.seen_at.is_some_and(|at| now - at < LEASE);
    loop {
        let answer = desired(&app, &request, present).await?;
        if answer.version != request.after || Instant::now() >= deadline {
            return Ok(Json(answer));
        }
        waiter.changed("sync", deadline).await;
    }
}

/// Each report in a transaction of its own: one that cannot be taken must not hold back the
/// others, nor the answer.
async fn take_over(app: &App, request: &SyncRequest) -> Result<Before> {
    let presence = Presence {
        id: request.runner,
        sequence: request.sequence,
        name: &request.name,
        public_key: &request.public_key,
        images: &request.images,
    };
    let mut tx = app.db.begin().await?;
    let before = runners::saw(&mut tx, &presence, app.clock.now()).await?;
    tx.commit().await?;
    if before.late {
        return Ok(before);
    }
    if let Some(reports) = &request.volumes {
        let mut tx = app.db.begin().await?;
        volumes::take_reports(&mut tx, request.runner, reports, app.clock.now()).await?;
        tx.commit().await?;
    }
    for report in &request.observed {
        match take_one(app, request.runner, report).await {
            Err(Error::Unavailable(sentence)) => return Err(Error::Unavailable(sentence)),
            Err(error) => {
                let cause = if let Error::Internal(cause) = &error {
                    format!("{cause:#}")
                } else {
                    error.to_string()
                };
                tracing::error!(deployment.id = %report.deployment, error = cause, "a report could not be taken");
            }
            Ok(()) => {}
        }
    }
    Ok(before)
}

async fn take_one(app: &App, runner: Uuid, report: &Report) -> Result<()> {
    let mut tx = app.db.begin().await?;
    deployments::take_report(&mut tx, runner, report, app.config.drain(), app.clock.now()).await?;
    tx.commit().await?;
    Ok(())
}

/// Claims what waits and reads what the runner should have.
async fn desired(app: &App, request: &SyncRequest, present: bool) -> Result<SyncResponse> {
    let mut tx = app.db.begin().await?;
    // Before the rows: a change that commits in between is then answered with the older version
    // and looked at again.
    let version = version(&mut tx, Changed::Sync).await?;
    deployments::claim(&mut tx, request.runner, present, app.clock.now()).await?;
    let rows = deployments::list_desired(&mut tx, request.runner).await?;
    let mut specs = Vec::with_capacity(rows.len());
    for row in rows {
        specs.push(spec(app, &mut tx, request.runner, row).await?);
    }
    let plans = plans::claim(&mut tx, request.runner, app.clock.now()).await?;
    let removed_projects = volumes::list_removed(&mut tx, request.runner).await?;
    let wanted_locks = locks::list_wanted(&mut tx, request.runner).await?;
    tx.commit().await?;
    Ok(SyncResponse {
        installation: app.installation,
        version,
        desired: specs,
        plans,
        removed_projects,
        wanted_locks,
    })
}

async fn spec(
    app: &App,
    db: &mut sqlx::PgConnection,
    runner: Uuid,
    row: deployments::Desired,
) -> Result<DeploymentSpec> {
    let config = &app.config;
    let variables = variables::for_runner(db, row.id, runner).await?;
    let name = match &row.preview {
        Some(preview) => previews::label(&row.project_name, &preview.slug),
        None => row.project_name.clone(),
    };
    // A stranger's code must not read where packages come from, nor by which credentials.
    let build_variables = match &row.preview {
        Some(preview) if preview.is_foreign => Vec::new(),
        _ => build_variables::for_runner(db, row.project_id, runner).await?,
    };
    Ok(DeploymentSpec {
        deployment: row.id,
        // What a preview's code leaves behind, in its files or in a store of packages, is not what
        // production finds.
        project: row.preview.map_or(row.project_id, |preview| preview.id),
        organization: row.organization_id,
        goal: if row.stop { Goal::Stop } else { Goal::Run },
        source: row.source,
        entrypoint: row.entrypoint,
        build: build_settings::of_deployment(db, row.id).await?,
        build_variables,
        public_url: config.project_url(&name),
        own_sign_in: row.mode == Mode::Tenant,
        redis: variables::has_redis(db, row.id).await?,
        variables,
        reuse: row.reuse,
        limits: config.limits(),
        project_name: row.project_name,
    })
}

/// Keeps log lines.
pub async fn logs(
    State(app): State<App>,
    Json(batch): Json<Vec<LogLine>>,
) -> Result<StatusCode, InternalError> {
    let mut tx = app.db.begin().await?;
    lines::append(&mut tx, &batch).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Keeps the text of a lock.
pub async fn lock(
    State(app): State<App>,
    Path(sha256): Path<String>,
    text: String,
) -> Result<StatusCode, InternalError> {
    let mut db = app.db.acquire().await?;
    locks::keep(&mut db, &sha256, &text, app.clock.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a plan that was asked for.
pub async fn planned(
    State(app): State<App>,
    Json(answer): Json<PlanAnswer>,
) -> Result<StatusCode, InternalError> {
    let mut tx = app.db.begin().await?;
    plans::answer(&mut tx, &answer, app.clock.now()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives what reads a repository, and where it is now, while a deployment of it is being built or a
/// plan of it made.
pub async fn repository_access(
    State(app): State<App>,
    Path(repository): Path<i64>,
) -> Result<Json<RepositoryAccess>, InternalError> {
    let away = |failure: Failure| Error::Unavailable(failure.to_string());
    let find = async || {
        let found = links::find_for_fetch(&mut *app.db.acquire().await?, repository).await?;
        found.ok_or(Error::NotFound("repository"))
    };
    let known = find().await?;
    // Whoever has the name now gives what is fetched, so the number must be the one that was chosen.
    let (installation, name) = (known.installation_id, Some(&*known.full_name));
    if !installations::settle(&app, installation, repository, name)
        .await
        .map_err(away)?
    {
        return Err(Error::NotFound("repository").into());
    }
    let found = find().await?;
    let token = tokens::of_installation(&app, found.installation_id)
        .await
        .map_err(away)?;
    Ok(Json(RepositoryAccess {
        origin: app.config.github_origin(),
        url: app.config.clone_url(&found.full_name),
        token: token.secret.expose().to_owned(),
    }))
}

/// Streams an uploaded archive.
pub async fn upload(
    State(app): State<App>,
    Path(sha256): Path<String>,
) -> Result<Response, InternalError> {
    // Only names that the database knows reach the file system.
    if !uploads::known(&mut *app.db.acquire().await?, &sha256).await? {
        return Err(Error::NotFound("upload").into());
    }
    let file = tokio::fs::File::open(uploads::path(&app.config.data, &sha256))
        .await
        .context("opening an upload that the database knows")?;
    let body = Body::from_stream(ReaderStream::new(file));
    Ok(([(header::CONTENT_TYPE, "application/gzip")], body).into_response())
}
