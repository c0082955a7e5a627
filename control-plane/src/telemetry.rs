//! Logging: text for people, JSON for machines. What is never logged: tokens, codes, cookies,
//! bodies, query strings, e-mail addresses.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// Settings of the log, which goes to stderr.
#[derive(Clone, Debug, clap::Args)]
pub struct LogConfig {
    /// What to log, as `level` or `module=level,…` [default: info for servers, warn for clients].
    #[arg(long, env = "BERTH_LOG", value_name = "FILTER", global = true)]
    pub log: Option<String>,

    /// How to write the log.
    #[arg(
        long,
        env = "BERTH_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "auto",
        global = true
    )]
    pub log_format: LogFormat,
}

/// How to write the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `default` is the level where nothing is set. Fails on an unreadable filter.
pub fn start(config: &LogConfig, default: &str) -> anyhow::Result<()> {
    let filter = config
        .log
        .as_deref()
        .filter(|filter| !filter.is_empty())
        .unwrap_or(default);
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("BERTH_LOG is {filter:?}, which is no log filter; try `info`"))?;
    let terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let json = match config.log_format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    // An error means that a test has set a subscriber before; that one stays.
    let _ = if json {
        log.json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init()
    } else {
        log.with_ansi(terminal).with_target(false).try_init()
    };
    Ok(())
}

tokio::task_local! {
    static REQUEST_ID: String;
}

/// The id of the request being answered, for error answers; empty outside of one.
pub fn request_id() -> String {
    REQUEST_ID.try_with(Clone::clone).unwrap_or_default()
}

/// Runs `answer` as the request `id`.
pub async fn within_request<T>(id: String, answer: impl Future<Output = T>) -> T {
    REQUEST_ID.scope(id, answer).await
}
