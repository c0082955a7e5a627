//! What runners and edges ask. Reached on the loopback listener only (the edge never forwards
//! `/internal`), and each role shows its token.

mod edge;
mod runner;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};

use crate::app::App;
use crate::error::Error;
use crate::locks;

/// Everything under `/internal`.
pub fn router(app: &App) -> Router<App> {
    let runner = Router::new()
        .route("/internal/runner/sync", post(runner::sync))
        .route("/internal/runner/logs", post(runner::logs))
        .route("/internal/runner/uploads/{sha256}", get(runner::upload))
        .route(
            "/internal/runner/locks/{sha256}",
            put(runner::lock).layer(DefaultBodyLimit::max(locks::MAX_LOCK_BYTES)),
        )
        .route("/internal/runner/plans", post(runner::planned))
        .route(
            "/internal/runner/repositories/{repository}/access",
            post(runner::repository_access),
        )
        .route_layer(from_fn_with_state(app.clone(), runner_only));
    let edge = Router::new()
        .route("/internal/edge/routes", get(edge::routes))
        .route(
            "/internal/edge/reports",
            post(edge::report).layer(DefaultBodyLimit::max(edge::MAX_REPORT)),
        )
        .route_layer(from_fn_with_state(app.clone(), edge_only));
    runner.merge(edge)
}

async fn runner_only(
    State(app): State<App>,
    bearer: Bearer,
    request: Request,
    next: Next,
) -> Response {
    bearer
        .admit(|token| app.config.accepts_runner(token), request, next)
        .await
}

async fn edge_only(
    State(app): State<App>,
    bearer: Bearer,
    request: Request,
    next: Next,
) -> Response {
    bearer
        .admit(|token| app.config.accepts_edge(token), request, next)
        .await
}

/// The role token a request shows, if any.
struct Bearer(Option<String>);

impl Bearer {
    async fn admit(
        self,
        accepts: impl FnOnce(&str) -> bool,
        request: Request,
        next: Next,
    ) -> Response {
        if self.0.is_some_and(|token| accepts(&token)) {
            next.run(request).await
        } else {
            (StatusCode::UNAUTHORIZED, "The role token is missing or wrong; give this process the same token as the control plane.")
                .into_response()
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Bearer {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let value = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok());
        Ok(Self(
            value
                .and_then(|v| v.strip_prefix("Bearer "))
                .map(str::to_owned),
        ))
    }
}

/// The internal face of an error: a status and a sentence for the other role's log.
struct InternalError(Error);

impl<E: Into<Error>> From<E> for InternalError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for InternalError {
    fn into_response(self) -> Response {
        if let Error::Internal(error) = &self.0 {
            tracing::error!(error = format!("{error:#}"), "an internal call failed");
        }
        (self.0.status(), self.0.to_string()).into_response()
    }
}
