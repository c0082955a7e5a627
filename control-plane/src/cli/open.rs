//! `berth open`

use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;
use serde_json::json;
use url::Url;

use super::client::{Client, ClientArguments, path};
use super::output::Output;

/// Programs that open a URL in the person's browser, by system.
const OPENERS: [&str; 2] = ["xdg-open", "open"];

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// The project.
    project: String,
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    let project = client.get(&path(&["projects", &arguments.project])).await?;
    let url = project["dashboard_url"]
        .as_str()
        .context("the server named no page")?;
    // The browser gets no other address than one of the server we are signed in to.
    let url = client
        .server()
        .join(url)
        .context("the server named no page")?;
    anyhow::ensure!(
        url.origin() == client.server().origin(),
        "the server named a page elsewhere, which is not opened: {url}"
    );
    let opened = browse(&url);
    output.result(&json!({ "url": url, "opened": opened }), || {
        if opened {
            format!("Opened {url}")
        } else {
            url.to_string()
        }
    });
    Ok(ExitCode::SUCCESS)
}

/// Opens `url` in the person's browser; whether that worked.
pub fn browse(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && OPENERS.iter().any(|program| open(program, url.as_str()))
}

/// The URL begins with `http`, so no program takes it for an option.
fn open(program: &str, url: &str) -> bool {
    Command::new(program)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
