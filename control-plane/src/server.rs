//! The control plane's HTTP server: every way in behind one set of layers.
//!
//! From the outside in: request id and trace → panics → `Host` → headers of the answer → browser
//! session → handler.

use std::any::Any;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument as _;

use crate::app::App;
use crate::error::Error;
use crate::shutdown::Tasks;
use crate::{api, connections, github, ids, internal, jobs, oauth, pages, signin, telemetry};

/// Largest form. The largest honest one sets every variable of a new project.
const MAX_FORM_BYTES: usize = 1024 * 1024;

/// Largest message of a runner: every report with its tools, or a batch of log lines.
const MAX_INTERNAL_BYTES: usize = 32 * 1024 * 1024;

/// Requests in progress get this long when we stop. Held polls and followed logs would go on for
/// much longer; their callers come back by themselves.
const GRACE: Duration = Duration::from_secs(5);

/// What only runners and edges may ask.
const INTERNAL: &str = "/internal/";

/// Asked by probes that know us by address.
const PROBES: [&str; 2] = ["/api/v1/health", "/api/v1/ready"];

/// What a page may load and where it may send: itself, and nothing else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; \
    base-uri 'none'";

/// Set where the handler has not set them. `same-origin` and not `no-referrer`: under the latter
/// browsers send `Origin: null` with our own forms, and the check of the origin would refuse them.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    ),
];

/// A year, for this host only: other hosts of the domain are not ours to decide for.
const STRICT_TRANSPORT_SECURITY: &str = "max-age=31536000";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Every way in.
pub fn router(app: &App) -> Router {
    let public = Router::new()
        .merge(pages::router())
        .merge(signin::router())
        .merge(oauth::router())
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .merge(api::router())
        // Whoever asks the API reads no page.
        .route("/api/{*rest}", any(no_such_address))
        .layer(signin::session_layer(app))
        .layer(from_fn_with_state(app.clone(), headers));
    let internal = internal::router(app).layer(DefaultBodyLimit::max(MAX_INTERNAL_BYTES));
    Router::new()
        .merge(public)
        .merge(github::router().layer(from_fn_with_state(app.clone(), headers)))
        .merge(internal)
        .layer(from_fn_with_state(app.clone(), admit_host))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(observe))
        .layer(from_fn(to_completion))
        .with_state(app.clone())
}

/// Serves on `listener`, with the timers, until `shutdown`; then requests in progress get
/// [`GRACE`].
pub async fn run(
    app: App,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let tasks = Tasks::new(shutdown.clone());
    tasks.spawn(
        "changes",
        app.changes.clone().listen(app.db.clone(), shutdown.clone()),
    );
    tasks.spawn("jobs", jobs::run(app.clone(), shutdown.clone()));
    tasks.spawn(
        "connections",
        connections::keep(app.clone(), shutdown.clone()),
    );
    for _ in 0..github::worker::WORKERS {
        tasks.spawn(
            "webhooks",
            github::worker::run(app.clone(), shutdown.clone()),
        );
    }
    for _ in 0..github::feedback::WORKERS {
        tasks.spawn(
            "feedback",
            github::feedback::run(app.clone(), shutdown.clone()),
        );
    }
    tasks.spawn(
        "branches",
        github::worker::reconcile(app.clone(), shutdown.clone()),
    );
    tracing::info!(address = %listener.local_addr()?, "the control plane listens");
    let serve = axum::serve(listener, router(&app))
        .with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        served = serve => served?,
        () = after_grace(&shutdown) => {}
    }
    tasks.finish(GRACE).await;
    app.db.close().await;
    Ok(())
}

async fn no_such_address() -> api::ApiError {
    api::ApiError(Error::NotFound("address"))
}

async fn after_grace(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

/// Runs a request to its end even when its client has gone. A handler dropped while its
/// transaction begins would hand a connection with an open transaction back to the pool, and what
/// a person asked for should not depend on whether they waited for the answer.
async fn to_completion(request: Request, next: Next) -> Response {
    #[expect(clippy::disallowed_methods, reason = "it is awaited right here")]
    let handling = tokio::spawn(next.run(request));
    handling.await.unwrap_or_else(|_| {
        // Panics were caught further in; what is left is the runtime's own end.
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "Berth is shutting down; try again in a moment.",
        )
            .into_response()
    })
}

/// Names the request, and logs how it went: the route's template, never the query.
async fn observe(request: Request, next: Next) -> Response {
    let id = ids::new_id().to_string();
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!("request", request.id = id);
    let started = Instant::now();
    let answer = telemetry::within_request(id.clone(), next.run(request));
    let mut response = answer.instrument(span.clone()).await;
    let status = response.status().as_u16();
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| {
        if route.starts_with(INTERNAL) || PROBES.contains(&route.as_str()) {
            tracing::debug!(%method, route, status, duration_ms, "answered");
        } else {
            tracing::info!(%method, route, status, duration_ms, "answered");
        }
    });
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

#[expect(clippy::needless_pass_by_value, reason = "the layer hands it over")]
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = message, "a handler panicked");
    let sentence = format!(
        "Something went wrong on our side; try again, and if it stays, give your operator the \
         request id {}.",
        telemetry::request_id()
    );
    (StatusCode::INTERNAL_SERVER_ERROR, sentence).into_response()
}

/// Answers only under our own name, so that a page of another site cannot have a browser talk to
/// us under its name (DNS rebinding). Runners and edges know us by address and show a token; what
/// they ask is in turn not to be had under the public name.
async fn admit_host(State(app): State<App>, request: Request, next: Next) -> Response {
    let public = host(&request).is_some_and(|host| is_public(&app.config.authority(), host));
    let path = request.uri().path();
    if path.starts_with(INTERNAL) && public {
        return StatusCode::NOT_FOUND.into_response();
    }
    if public || path.starts_with(INTERNAL) || PROBES.contains(&path) {
        return next.run(request).await;
    }
    let sentence = format!(
        "Berth does not answer under this name; go to {}.",
        app.config.issuer()
    );
    (StatusCode::MISDIRECTED_REQUEST, sentence).into_response()
}

fn host(request: &Request) -> Option<&str> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str());
    }
    request.headers().get(header::HOST)?.to_str().ok()
}

/// Host names know no letter case; a port that is the scheme's own may be written or not.
fn is_public(ours: &str, host: &str) -> bool {
    let bare = host
        .strip_suffix(":443")
        .or_else(|| host.strip_suffix(":80"))
        .unwrap_or(host);
    host.eq_ignore_ascii_case(ours) || bare.eq_ignore_ascii_case(ours)
}

async fn headers(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    if app.config.is_secure() {
        let value = HeaderValue::from_static(STRICT_TRANSPORT_SECURITY);
        headers
            .entry(header::STRICT_TRANSPORT_SECURITY)
            .or_insert(value);
    }
    response
}

#[cfg(test)]
mod tests;
