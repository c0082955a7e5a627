//! For router tests: a database of its own per test, a clock that stands still, the application,
//! and a browser that keeps cookies.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use clap::Parser;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::sync::OnceCell;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::api_tokens::{self, NewToken};
use crate::app::App;
use crate::audit::Actor;
use crate::changes::Changes;
use crate::clock::Clock;
use crate::config::ServeConfig;
use crate::connections::Recorder;
use crate::crypto::{KeyEncryptionKey, hex, sha256};
use crate::github::GitHub;
use crate::organizations::Role;
use crate::projects::{self, Project, Settings};
use crate::signing_keys::SigningKeys;
use crate::users::{self, User};
use crate::{clients, db, ids, organizations};

/// Where the dashboard is in tests.
pub const ORIGIN: &str = "http://localhost:8080";

/// The owner of every test's platform.
pub const OWNER: &str = "owner@localhost";

/// The owner's password.
pub const PASSWORD: &str = "correct horse battery";

/// Any number: one process at a time makes the template database.
const TEMPLATE_LOCK: i64 = 0x6265_7274_6803;

/// Databases of earlier runs are dropped after this many seconds.
const STALE_SECONDS: i64 = 3_600;

/// When tests happen.
pub fn start() -> OffsetDateTime {
    datetime!(2026-11-22 12:00 UTC)
}

/// Settings from flags.
pub fn config(flags: &[&str]) -> ServeConfig {
    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        config: ServeConfig,
    }
    let flags = [
        "berth",
        "--url",
        ORIGIN,
        "--owner-email",
        OWNER,
        "--owner-password",
        PASSWORD,
    ]
    .into_iter()
    .filter(|flag| *flag != "--url" && *flag != ORIGIN || !flags.contains(&"--url"))
    .chain(flags.iter().copied());
    Program::parse_from(flags)
        .config
        .check()
        .expect("test settings are good")
}

fn server() -> PgConnectOptions {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests are told by the environment where Postgres is"
    )]
    let url =
        std::env::var("DATABASE_URL").expect("set DATABASE_URL to a Postgres server for tests");
    PgConnectOptions::from_str(&url).expect("DATABASE_URL is a Postgres URL")
}

async fn run(connection: &mut PgConnection, sql: String) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .map(|_| ())
}

/// The database that every test's is copied from: migrated once per schema.
async fn template() -> &'static str {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    TEMPLATE.get_or_init(make_template).await
}

async fn make_template() -> String {
    let schema: Vec<u8> = db::MIGRATIONS
        .iter()
        .flat_map(|m| m.checksum.to_vec())
        .collect();
    let name = format!("berth_test_template_{}", &hex(&sha256(schema))[..16]);
    let mut admin = server()
        .connect()
        .await
        .expect("Postgres answers at DATABASE_URL");
    run(
        &mut admin,
        format!("select pg_advisory_lock({TEMPLATE_LOCK})"),
    )
    .await
    .unwrap();
    drop_stale(&mut admin).await;
    let ready: Option<bool> =
        sqlx::query_scalar("select datistemplate from pg_database where datname = $1")
            .bind(&name)
            .fetch_optional(&mut admin)
            .await
            .unwrap();
    if ready != Some(true) {
        run(&mut admin, format!("drop database if exists {name}"))
            .await
            .unwrap();
        run(&mut admin, format!("create database {name}"))
            .await
            .unwrap();
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_with(server().database(&name))
            .await
            .unwrap();
        db::migrate(&pool).await.unwrap();
        pool.close().await;
        run(
            &mut admin,
            format!("alter database {name} is_template true"),
        )
        .await
        .unwrap();
    }
    admin.close().await.unwrap();
    name
}

async fn drop_stale(admin: &mut PgConnection) {
    let names: Vec<String> = sqlx::query_scalar(
        "select datname from pg_database where datname like 'berth\\_test\\_run\\_%'",
    )
    .fetch_all(&mut *admin)
    .await
    .unwrap();
    let now = Clock::System.now().unix_timestamp();
    for name in names {
        let made: Option<i64> = name
            .split('_')
            .nth(3)
            .and_then(|seconds| seconds.parse().ok());
        if made.is_none_or(|made| now - made > STALE_SECONDS) {
            // Another process may be dropping it too.
            let _ = run(
                admin,
                format!("drop database if exists {name} with (force)"),
            )
            .await;
        }
    }
}

/// An empty, migrated database of this test's own.
pub async fn database() -> PgPool {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let template = template().await;
    let name = format!(
        "berth_test_run_{}_{}_{}",
        Clock::System.now().unix_timestamp(),
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let mut admin = server().connect().await.unwrap();
    run(
        &mut admin,
        format!("create database {name} template {template}"),
    )
    .await
    .unwrap();
    admin.close().await.unwrap();
    PgPoolOptions::new()
        .max_connections(10)
        .connect_with(server().database(&name))
        .await
        .unwrap()
}

/// The application with its owner, at [`start`].
pub async fn app() -> App {
    app_with(config(&[])).await
}

/// The application with these settings.
pub async fn app_with(config: ServeConfig) -> App {
    let db = database().await;
    let clock = Clock::frozen(start());
    let mut connection = db.acquire().await.unwrap();
    let installation = db::installation(&mut connection).await.unwrap();
    let kek = KeyEncryptionKey::new(&[7; 32]);
    let keys = SigningKeys::load_or_create(&mut connection, &kek, clock.now())
        .await
        .unwrap();
    users::ensure_owner(&mut connection, &config, clock.now())
        .await
        .unwrap();
    clients::ensure_cli(&mut connection, clock.now())
        .await
        .unwrap();
    drop(connection);
    let github = GitHub::new(&config, clock.clone()).unwrap();
    App {
        db,
        config: Arc::new(config),
        github: Arc::new(github),
        clock,
        changes: Changes::default(),
        keys: Arc::new(keys),
        kek: Arc::new(kek),
        connections: Recorder::default(),
        documents: Arc::new(clients::Documents::new(NoWeb)),
        installation,
    }
}

/// Clients' documents where there are none.
struct NoWeb;

#[async_trait::async_trait]
impl clients::Source for NoWeb {
    async fn json(&self, _: &str) -> Result<outbound::Document, outbound::Fault> {
        Err(outbound::Fault::Unreachable)
    }
}

/// The owner.
pub async fn owner(app: &App) -> User {
    users::find_owner(&mut app.db.acquire().await.unwrap())
        .await
        .unwrap()
        .expect("every test has an owner")
}

/// Someone who belongs to no organization, with [`PASSWORD`].
pub async fn stranger(app: &App) -> User {
    let mut db = app.db.acquire().await.unwrap();
    let email = format!("{}@elsewhere.example", ids::new_id());
    let user = users::create(&mut db, &email, app.clock.now())
        .await
        .unwrap();
    users::set_password(&mut db, user.id, PASSWORD.to_owned())
        .await
        .unwrap();
    user
}

/// A member of the owner's organization, with [`PASSWORD`].
pub async fn member(app: &App, role: Role) -> User {
    let user = stranger(app).await;
    let home = home(app).await;
    let mut db = app.db.acquire().await.unwrap();
    organizations::add_member(&mut db, home, user.id, role)
        .await
        .unwrap();
    user
}

/// The owner's organization.
pub async fn home(app: &App) -> Uuid {
    let owner = owner(app).await;
    let mut db = app.db.acquire().await.unwrap();
    organizations::list_for(&mut db, owner.id)
        .await
        .unwrap()
        .remove(0)
        .id
}

/// A project of the owner's organization.
pub async fn project(app: &App, name: &str) -> Project {
    let owner = owner(app).await;
    let mut tx = app.db.begin().await.unwrap();
    let organization = organizations::list_for(&mut tx, owner.id)
        .await
        .unwrap()
        .remove(0)
        .id;
    let settings = Settings::default();
    let project = projects::create(
        &mut tx,
        organization,
        name,
        &settings,
        &Actor::User(owner.id),
        app.clock.now(),
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    project
}

/// One who asks over HTTP, as the edge passes it on, and keeps cookies.
#[derive(Clone)]
pub struct Browser {
    router: Router,
    /// The cookies it keeps.
    pub cookies: BTreeMap<String, String>,
    /// Sent with every request.
    pub headers: HeaderMap,
}

impl Browser {
    /// One without cookies.
    pub fn new(app: &App) -> Self {
        Self {
            router: crate::server::router(app),
            cookies: BTreeMap::new(),
            headers: HeaderMap::new(),
        }
    }

    /// One who has signed in as the owner.
    pub async fn signed_in(app: &App) -> Self {
        Self::signed_in_as(app, OWNER).await
    }

    /// One who has signed in with [`PASSWORD`].
    pub async fn signed_in_as(app: &App, email: &str) -> Self {
        let mut browser = Self::new(app);
        let form = browser.get("/signin").await;
        let csrf = form.field("csrf");
        let answer = browser
            .submit(
                "/signin",
                &[("csrf", &csrf), ("email", email), ("password", PASSWORD)],
            )
            .await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        browser
    }

    /// One who shows a new API token of someone's that is good for everything.
    pub async fn with_token(app: &App, user: &User) -> Self {
        let mut db = app.db.acquire().await.unwrap();
        let new = NewToken::for_everything(user.id, "test", None);
        let actor = Actor::User(user.id);
        let (_, token) = api_tokens::create(&mut db, new, &actor, app.clock.now())
            .await
            .unwrap();
        Self::showing(app, &token)
    }

    /// One who shows this token.
    pub fn showing(app: &App, token: &str) -> Self {
        let mut browser = Self::new(app);
        let value = format!("Bearer {token}").parse().unwrap();
        browser.headers.insert(header::AUTHORIZATION, value);
        browser
    }

    /// Calls the API. `path` begins below `/api/v1`.
    pub async fn api(&mut self, method: Method, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        self.send(method, &format!("/api/v1{path}"), &headers, body)
            .await
    }

    /// Opens a page. Redirects are not followed.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Body::empty()).await
    }

    /// Submits a form as a browser does from a page of ours.
    pub async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let headers = [("origin", ORIGIN), ("sec-fetch-site", "same-origin")];
        self.form(path, fields, &headers).await
    }

    /// Posts a form with these headers.
    pub async fn form(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let form = ("content-type", "application/x-www-form-urlencoded");
        let headers: Vec<_> = std::iter::once(form)
            .chain(headers.iter().copied())
            .collect();
        self.send(Method::POST, path, &headers, Body::from(body))
            .await
    }

    /// Posts JSON.
    pub async fn json(&mut self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send(Method::POST, path, &headers, Body::from(body.to_string()))
            .await
    }

    /// Sends anything.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if !self.cookies.is_empty() {
            let cookies: Vec<_> = self
                .cookies
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        let response = self
            .router
            .clone()
            .oneshot(request.body(body).unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        for cookie in parts.headers.get_all(header::SET_COOKIE) {
            self.keep(cookie.to_str().unwrap());
        }
        let body = String::from_utf8_lossy(&body.collect().await.unwrap().to_bytes()).into_owned();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    fn keep(&mut self, cookie: &str) {
        let (pair, attributes) = cookie.split_once(';').unwrap_or((cookie, ""));
        let (name, value) = pair.split_once('=').unwrap();
        if attributes.contains("Max-Age=0") {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Where it redirects to.
    pub fn location(&self) -> &str {
        assert!(
            self.status.is_redirection(),
            "{} {}",
            self.status,
            self.body
        );
        self.header("location")
    }

    /// A parameter of the place it redirects to.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let url = url::Url::options()
            .base_url(Some(&ORIGIN.parse().unwrap()))
            .parse(self.location())
            .unwrap();
        url.query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The body as JSON.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{} {}", self.status, self.body))
    }

    /// The value of a hidden field of the page's form.
    pub fn field(&self, name: &str) -> String {
        let at = format!("name=\"{name}\" value=\"");
        let (_, rest) = self
            .body
            .split_once(&at)
            .unwrap_or_else(|| panic!("no field {name}: {} {}", self.status, self.body));
        rest.split('"').next().unwrap().to_owned()
    }
}
