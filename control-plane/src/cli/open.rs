//! `berth open`

use std::os::unix::process::CommandExt as _;
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
    let opened = browse(&url).await;
    output.result(&json!({ "url": url, "opened": opened }), || {
        if opened {
            format!("Opened {url}")
        } else {
            url.to_string()
        }
    });
    Ok(ExitCode::SUCCESS)
}

/// Opens `url` in the person's browser: the one that `BROWSER` names, else the system's. Says
/// whether that worked.
pub async fn browse(url: &Url) -> bool {
    // It begins with `http`, so no program takes it for an option.
    if !matches!(url.scheme(), "http" | "https") {
        return false;
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "which browser a person uses is no setting of ours"
    )]
    let named = std::env::var("BROWSER").unwrap_or_default();
    if named
        .split(':')
        .filter_map(|command| arguments(command, url.as_str()))
        .any(|command| start(&command))
    {
        return true;
    }
    for program in OPENERS {
        if open(program, url.as_str()).await {
            return true;
        }
    }
    false
}

/// One command of `BROWSER`: words, with the address in place of `%s` or at the end.
fn arguments(command: &str, url: &str) -> Option<Vec<String>> {
    let mut words: Vec<String> = command
        .split_whitespace()
        .map(|word| word.replace("%s", url))
        .collect();
    if words.is_empty() {
        return None;
    }
    if !command.contains("%s") {
        words.push(url.to_owned());
    }
    Some(words)
}

/// Starts a browser itself, which may run for hours: in a process group of its own, so that
/// Ctrl-C here does not close it.
fn start(command: &[String]) -> bool {
    quiet(Command::new(&command[0]).args(&command[1..]))
        .process_group(0)
        .spawn()
        .is_ok()
}

/// Asks the system to open it; such a program hands the address on and ends.
async fn open(program: &str, url: &str) -> bool {
    let mut command = Command::new(program);
    quiet(command.arg(url));
    tokio::process::Command::from(command)
        .status()
        .await
        .is_ok_and(|status| status.success())
}

fn quiet(command: &mut Command) -> &mut Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_takes_its_place_in_the_command_as_one_word() {
        let url = "http://localhost/?a=%73&b";
        assert_eq!(arguments("w3m", url).unwrap(), ["w3m", url]);
        assert_eq!(
            arguments(" firefox --new-tab=%s -x ", url).unwrap(),
            ["firefox", &format!("--new-tab={url}"), "-x"]
        );
        assert_eq!(arguments(" ", url), None);
    }
}
