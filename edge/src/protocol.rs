//! What the edge and the control plane say to each other.
//!
//! | call | answer |
//! |---|---|
//! | `GET /internal/edge/routes?after=VERSION` | a [`RouteSnapshot`], or 204 after [`MAX_WAIT_SECONDS`] while `VERSION` is current |
//! | `POST /internal/edge/reports` [`EdgeReport`] | 204 |
//!
//! Both carry `Authorization: Bearer <edge's role token>`. The edge swaps its table whole and keeps
//! the snapshot on disk, so that it serves while the control plane or its database is away.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest an answer is held, in seconds; below common proxy idle limits (60 s).
pub const MAX_WAIT_SECONDS: u64 = 20;

/// An edge reports at least this often, in seconds, and sooner when there is something to say.
pub const REPORT_SECONDS: u64 = 5;

/// Everything the edge needs to serve every project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteSnapshot {
    /// Grows with every change; a snapshot older than the one in use is ignored.
    pub version: i64,
    /// The authorization server's issuer, for example `https://berth.example.com`, exactly as it
    /// stands in tokens and metadata (no trailing slash).
    pub issuer: String,
    /// Public signing keys as a JWK set (RFC 7517): every key whose tokens may still be alive.
    pub keys: serde_json::Value,
    /// Grants whose tokens are no longer accepted although not yet expired.
    pub revoked_grants: Vec<Uuid>,
    /// Everyone who can be a caller: people and service accounts.
    pub users: Vec<User>,
    /// API tokens that are good for calls.
    pub api_tokens: Vec<ApiToken>,
    /// The projects and their previews.
    pub routes: Vec<Route>,
}

/// A person or a service account, as servers are told of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Their id: the `sub` of tokens and assertions, and `Berth-User`.
    pub id: Uuid,
    /// A person's e-mail address; a service account has none.
    pub email: Option<String>,
    /// A service account's organization; a person belongs to none here.
    pub organization: Option<Uuid>,
}

/// An API token (`brt_…`) as it is recognised: no edge learns the token before its owner shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    /// Its id; as a client it is called `api-token:<id>`.
    pub id: Uuid,
    /// SHA-256 of the token, lower-case hex.
    pub hash: String,
    /// Whose it is.
    pub user: Uuid,
    /// The projects it is good for; `None` for every one that its owner may call.
    pub projects: Option<Vec<Uuid>>,
    /// Seconds since 1970; `None` for a token without an end.
    pub expires_at: Option<i64>,
}

/// One project at the edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Lower-case host without port, for example `hello.localhost`.
    pub host: String,
    /// The second host, for clients that would start a sign-in where they hear of one: it takes
    /// API tokens only and names no authorization server. For example `hello--key.localhost`.
    pub key_host: String,
    /// The project, or the preview of one: nothing else has this id.
    pub project: Uuid,
    /// Of a preview: its project, which its callers' tokens name.
    #[serde(default)]
    pub preview_of: Option<Uuid>,
    /// The organization that it belongs to.
    pub organization: Uuid,
    /// Its name.
    pub project_name: String,
    /// The protected resource and the tokens' audience: exactly the public MCP URL,
    /// for example `https://hello.example.net/mcp` (RFC 8707, RFC 9728).
    pub resource: String,
    /// Who may call.
    pub policy: Policy,
    /// Further origins whose pages may call, as browsers write them (`https://app.example.com`).
    pub allowed_origins: Vec<String>,
    /// Where new MCP sessions and requests without one go; `None` while nothing is live.
    pub live: Option<Upstream>,
    /// Nothing is live, and something is about to be: calls are held, and told of in
    /// [`EdgeReport::wanted`], since the instance may be asleep.
    #[serde(default)]
    pub starts: bool,
    /// Replaced instances that still serve the MCP sessions they own.
    pub draining: Vec<Upstream>,
}

/// Who may call a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Policy {
    /// A token of the platform: of its authorization server with this resource as audience, or an
    /// API token.
    Platform {
        /// The scope an access token must carry (RFC 6750 section 3.1).
        scope: String,
        /// Whose.
        callers: Callers,
        /// Paths that everyone may ask for, without a token: `/health`, or `/hooks/*` for all below.
        public_paths: Vec<String>,
    },
    /// Anyone.
    Public,
    /// The server decides itself: every path, header and cookie is its own.
    Tenant,
}

/// Whose tokens a project accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Callers {
    /// Everyone's who is signed in, and of service accounts those of the project's organization.
    Anyone,
    /// These users' alone.
    Only(Vec<Uuid>),
}

/// One instance that can be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// The deployment it runs: the `Berth-Deployment` response header.
    pub deployment: Uuid,
    /// The exact commit: the `Berth-Commit` response header.
    pub commit: String,
    /// `address:port`, HTTP/1.1 without TLS.
    pub address: String,
    /// Which host it is told.
    pub host_header: HostHeader,
}

/// The `Host` that an instance is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostHeader {
    /// The public one.
    #[default]
    Public,
    /// `localhost:<its port>`, and no `Origin` where the edge has checked it: for a server that
    /// refuses unknown hosts itself. An `Origin` that nobody has checked stays, for the server to
    /// judge. A redirect to that host is given back the public one.
    Localhost,
}

/// What an edge has seen since its last report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdgeReport {
    /// Names this edge: the id (`kid`) of its key.
    pub edge: String,
    /// The public key (JWK, ES256) with which this edge signs what it tells instances about callers.
    pub key: serde_json::Value,
    /// The version of the snapshot in use, 0 before the first.
    #[serde(default)]
    pub version: i64,
    /// Names what follows of `calls`, `steps` and `dropped`: sent again, it has the same, and counts
    /// once. `None` in what older edges send, which counts each time.
    #[serde(default)]
    pub id: Option<ReportId>,
    /// The instances on this edge's table, and who depends on them. Says nothing of instances that
    /// this edge has not heard of yet.
    pub instances: Vec<InstanceUse>,
    /// Routes that start ([`Route::starts`]) and for which calls were held since the last report, by
    /// their `project`.
    #[serde(default)]
    pub wanted: Vec<Uuid>,
    /// Calls answered since the last report; in JSON, those of one caller
    /// stand together.
    #[serde(with = "crate::call_group")]
    pub calls: Vec<CallEvent>,
    /// Steps of clients that connect.
    pub steps: Vec<ConnectionStep>,
    /// Events left out because there were too many, or the control plane was away too long.
    pub dropped: u64,
}

/// Which report of an edge it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportId {
    /// Drawn anew whenever the edge starts.
    pub run: Uuid,
    /// Grows within a run.
    pub number: i64,
}

/// Who depends on an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceUse {
    /// The deployment it runs.
    pub deployment: Uuid,
    /// MCP sessions that it owns and that were in use lately or hold a stream open.
    pub sessions: u32,
    /// Requests that it is answering.
    pub requests: u32,
}

/// One call that was passed to an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallEvent {
    /// The project, or the preview.
    pub project: Uuid,
    /// Which deployment answered.
    pub deployment: Uuid,
    /// The grant of the access token, if there was one.
    pub grant: Option<Uuid>,
    /// The API token, if there was one.
    pub api_token: Option<Uuid>,
    /// When it began, milliseconds since 1970.
    pub at_ms: i64,
    /// From its head's arrival to the end of the answer's head, microseconds.
    pub duration_us: u32,
    /// The status of the answer.
    pub status: u16,
}

/// One step of a client on its way to a connection, as the edge sees it. The authorization server
/// sees the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStep {
    /// The project, or the preview.
    pub project: Uuid,
    /// Which.
    pub step: EdgeStep,
    /// The last of these, milliseconds since 1970.
    pub at_ms: i64,
    /// How many like it.
    pub count: u32,
    /// The client's network address.
    pub address: String,
    /// Its `User-Agent`, cut to 200 bytes.
    pub user_agent: Option<String>,
    /// The client of the token, where one was verified.
    pub client_id: Option<String>,
    /// The user of the token, where one was verified.
    pub user: Option<Uuid>,
}

/// What a client did at the edge, or how it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeStep {
    /// It called without a token and was told where to get one.
    Challenged,
    /// It read the protected resource metadata.
    ResourceMetadata,
    /// It called with a good token: reported for the first call of each token.
    Called,
    /// The token is malformed, forged or unknown.
    TokenInvalid,
    /// The access token or API token has expired.
    TokenExpired,
    /// The token's grant was revoked.
    TokenRevoked,
    /// The token is for another project or another spelling of this one.
    TokenForeign,
    /// The token lacks the scope.
    ScopeMissing,
    /// The token's user may not call this project (any more).
    CallerNotAllowed,
    /// A web page of this origin may not call.
    OriginRefused,
    /// The MCP session belongs to another user or client, or its instance is gone.
    SessionUnknown,
    /// A path that is not served.
    PathDenied,
    /// Nothing is live, or it did not take the call in time.
    NothingLive,
}
