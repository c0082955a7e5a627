//! `berth doctor`: what is wrong, and how to mend it. On the platform's machine it looks at the
//! machine; for whoever is signed in it looks at the server.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use rustix::fs::statvfs;
use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::client::{Client, ClientArguments, path};
use super::data::adopt_noted_url;
use super::output::{Output, line, text};
use crate::clock::Clock;
use crate::config::ServeConfig;
use crate::crypto::KeyEncryptionKey;
use crate::github::{self, registration};
use crate::private_postgres::{self, PrivatePostgres};

/// Below this a build may fill the disk: an environment with its cache takes about one. Bytes.
const LITTLE_SPACE: u64 = 2 * 1024 * 1024 * 1024;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    #[command(flatten)]
    config: ServeConfig,

    #[command(flatten)]
    runner: runner::Settings,
}

/// One thing that was looked at.
struct Check {
    subject: String,
    state: State,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Well,
    Warning,
    Broken,
}

impl Check {
    fn new(subject: &str, state: State, text: impl Into<String>) -> Self {
        Self {
            subject: subject.to_owned(),
            state,
            text: text.into(),
        }
    }

    fn well(subject: &str, text: impl Into<String>) -> Self {
        Self::new(subject, State::Well, text)
    }

    fn broken(subject: &str, text: impl Into<String>) -> Self {
        Self::new(subject, State::Broken, text)
    }

    /// Well with what the check says, or broken with its error.
    fn from(subject: &str, result: anyhow::Result<String>) -> Self {
        match result {
            Ok(text) => Self::well(subject, text),
            Err(error) => Self::broken(subject, format!("{error:#}")),
        }
    }

    fn line(&self) -> String {
        let mark = match self.state {
            State::Well => '✓',
            State::Warning => '!',
            State::Broken => '✗',
        };
        format!("{mark} {}: {}", self.subject, self.text)
    }

    fn document(&self) -> Value {
        let state = match self.state {
            State::Well => "well",
            State::Warning => "warning",
            State::Broken => "broken",
        };
        json!({ "subject": self.subject, "state": state, "text": self.text })
    }
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::anonymous(&arguments.client)?;
    let is_operator = arguments.config.data.is_dir() || !client.has_token();
    let mut checks = Vec::new();
    let mut settings = Vec::new();
    if is_operator {
        let mut config = arguments.config;
        adopt_noted_url(&mut config);
        let config = &config;
        settings = config.settings();
        checks.push(Check::from("settings", check_settings(config)));
        checks.push(Check::from("database", database(config).await));
        checks.extend(github(config).await);
        checks.extend(
            runner::check(&arguments.runner)
                .await
                .into_iter()
                .map(Into::into),
        );
        checks.push(name_resolution(&config.apps_domain).await);
        checks.push(Check::from("clock", clock()));
        checks.push(Check::from("disk", disk(&config.data)));
    }
    if client.has_token() {
        checks.extend(server(&client).await);
    }
    report(&checks, &settings, output);
    let broken = checks.iter().any(|check| check.state == State::Broken);
    Ok(if broken {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn report(checks: &[Check], settings: &[(&str, String)], output: Output) {
    let documents: Vec<Value> = checks.iter().map(Check::document).collect();
    let members = settings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)));
    let document = json!({ "checks": documents, "settings": Value::Object(members.collect()) });
    output.result(&document, || {
        for (name, value) in settings {
            line(&format!("  {name} = {value}"));
        }
        checks
            .iter()
            .map(Check::line)
            .collect::<Vec<_>>()
            .join("\n")
    });
}

impl From<runner::Finding> for Check {
    fn from(finding: runner::Finding) -> Self {
        let state = match finding.state {
            runner::Health::Well => State::Well,
            runner::Health::Warning => State::Warning,
            runner::Health::Broken => State::Broken,
        };
        Self::new(finding.subject, state, finding.text)
    }
}

fn check_settings(config: &ServeConfig) -> anyhow::Result<String> {
    let config = config.clone().check()?;
    Ok(format!("Berth is reached at {}.", config.issuer()))
}

async fn database(config: &ServeConfig) -> anyhow::Result<String> {
    let config = config.clone().check()?;
    if config.database_url.is_some() {
        connect(&config.database_options()?).await?;
        return Ok("The database answers.".into());
    }
    if let Some(postgres) = PrivatePostgres::find_running(&config.data)? {
        connect(&postgres.options()).await?;
        let directory = postgres.directory().display();
        return Ok(format!("The private Postgres in {directory} answers."));
    }
    let version = private_postgres::installed_version(&config.data)?;
    Ok(format!(
        "Postgres {version} is installed, and starts with `berth all`."
    ))
}

async fn connect(options: &PgConnectOptions) -> anyhow::Result<()> {
    let connection = timeout(PATIENCE, PgConnection::connect_with(options))
        .await
        .context("the database does not answer in time: look at its log")?
        .context("the database does not answer: check BERTH_DATABASE_URL and its log")?;
    // Whether the farewell arrives does not matter.
    let _ = connection.close().await;
    Ok(())
}

/// Whether GitHub knows the App by its key; nothing is said of what is not set up.
async fn github(config: &ServeConfig) -> Option<Check> {
    const SUBJECT: &str = "GitHub";
    match ask_github(config).await {
        Ok(None) => None,
        Ok(Some(text)) => Some(Check::well(SUBJECT, text)),
        Err(error) => Some(Check::broken(SUBJECT, format!("{error:#}"))),
    }
}

async fn ask_github(config: &ServeConfig) -> anyhow::Result<Option<String>> {
    let config = config.clone().check()?;
    let options = if config.database_url.is_some() {
        config.database_options()?
    } else {
        match PrivatePostgres::find_running(&config.data)? {
            Some(postgres) => postgres.options(),
            None => return Ok(None),
        }
    };
    // Without a database, or before the first start, another check says so.
    let Ok(Ok(mut db)) = timeout(PATIENCE, PgConnection::connect_with(&options)).await else {
        return Ok(None);
    };
    let Ok(true) = registration::exists(&mut db).await else {
        return Ok(None);
    };
    let kek = KeyEncryptionKey::new(&config.key_encryption_key()?);
    let Some(app) = registration::find(&mut db, &kek).await? else {
        return Ok(None);
    };
    let client = github::client::Client::new(&config, Clock::System)?;
    let assertion = app.assertion(Clock::System.now())?;
    let known = github::rest::app_of(&client, &assertion).await.map_err(|failure| {
        anyhow::anyhow!(
            "{} does not know the App {} by its key: {failure} Set it up anew on the page GitHub, \
             or check BERTH_GITHUB_API_URL and this machine's clock",
            config.github(),
            app.slug
        )
    })?;
    anyhow::ensure!(
        known.id == app.id,
        "the key is that of another App, {}; set the App up anew on the page GitHub",
        known.slug
    );
    Ok(Some(format!(
        "{} knows the App {}.",
        config.github(),
        known.slug
    )))
}

/// Whether clients on this machine find projects by name, as the C library resolves it.
async fn name_resolution(apps_domain: &str) -> Check {
    const SUBJECT: &str = "name resolution";
    let name = format!("hello.{apps_domain}");
    let found = timeout(PATIENCE, lookup_host((name.as_str(), 80))).await;
    match found {
        Ok(Ok(_)) => Check::well(SUBJECT, format!("{name} leads somewhere.")),
        _ if apps_domain == "localhost" => Check::broken(
            SUBJECT,
            format!(
                "{name} is not found by programs on this machine (browsers and berth itself find \
                 it): install libnss-myhostname, or add `127.0.0.1 PROJECT.localhost` to \
                 /etc/hosts for each project."
            ),
        ),
        _ => Check::broken(
            SUBJECT,
            format!("{name} is not found: add the DNS record *.{apps_domain} for this machine."),
        ),
    }
}

/// A clock that stands before our own program was installed is wrong; tokens would not be valid.
fn clock() -> anyhow::Result<String> {
    let program = std::env::current_exe().and_then(std::fs::metadata)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the machine's own clock is what is checked"
    )]
    let now = SystemTime::now();
    anyhow::ensure!(
        now >= program.modified()?,
        "this machine's clock is behind: set it, and keep it right with NTP"
    );
    Ok("It is later than the installation.".into())
}

fn disk(data: &Path) -> anyhow::Result<String> {
    let nearest = std::path::absolute(data)?;
    let nearest = nearest
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let disk = statvfs(nearest).with_context(|| format!("cannot look at {}", nearest.display()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let mib = free / 1024 / 1024;
    anyhow::ensure!(
        free >= LITTLE_SPACE,
        "only {mib} MiB are free at {}: make room, or move the data directory",
        nearest.display()
    );
    Ok(format!("{mib} MiB are free at {}.", nearest.display()))
}

async fn server(client: &Client) -> Vec<Check> {
    let mut checks = vec![Check::from(
        "server",
        client
            .get(&path(&["health"]))
            .await
            .map(|_| format!("{} answers.", client.name())),
    )];
    if checks[0].state == State::Broken {
        return checks;
    }
    let ready = client.get(&path(&["ready"])).await;
    checks.push(Check::from(
        "readiness",
        ready.map(|_| "Deployments can be made.".to_owned()),
    ));
    let me = client.get(&path(&["me"])).await;
    checks.push(Check::from(
        "sign-in",
        me.map(|me| format!("Signed in as {}.", text(&me, "email"))),
    ));
    checks
}
