//! `berth login`

mod browser;
mod loopback;

use std::io::{IsTerminal as _, Read as _, stdin};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use reqwest::Method;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;

use super::client::{Client, ClientArguments, path};
use super::credentials::Credentials;
use super::exit::Failure;
use super::output::{Output, note, text};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// Sign in by e-mail and password.
    #[arg(long, value_name = "EMAIL", requires = "password_stdin")]
    email: Option<String>,

    /// Read the password from stdin.
    #[arg(long, requires = "email")]
    password_stdin: bool,

    /// Print the address to sign in at, instead of opening a browser on it.
    #[arg(long, conflicts_with_all = ["email", "paste"])]
    no_browser: bool,

    /// Ask for an API token made on the Tokens page: for a browser on another computer, over SSH.
    #[arg(long, conflicts_with = "email")]
    paste: bool,
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::anonymous(&arguments.client)?;
    let token = match (&arguments.email, &arguments.client.token) {
        (Some(email), _) => with_password(&client, email).await?,
        (None, _) if arguments.paste => pasted(&client)?,
        (None, Some(token)) => token.expose().to_owned(),
        (None, None) => browser::sign_in(&client, !arguments.no_browser).await?,
    };
    // A token that does not work is not kept.
    let me = client.with_token(&token).get(&path(&["me"])).await?;
    let mut credentials = Credentials::load()?;
    credentials.keep(client.server(), &token);
    let file = credentials.save()?;
    let server = client.name();
    output.result(&json!({ "server": server, "user": me }), || {
        format!(
            "Signed in to {server} as {}; kept in {}.",
            text(&me, "email"),
            file.display()
        )
    });
    Ok(ExitCode::SUCCESS)
}

async fn with_password(client: &Client, email: &str) -> anyhow::Result<String> {
    let mut password = String::new();
    stdin()
        .read_to_string(&mut password)
        .context("cannot read the password")?;
    let password = password.trim_end_matches(['\n', '\r']);
    let body = json!({ "email": email, "password": password });
    let answer = client.send(Method::POST, &path(&["login"]), &body).await?;
    answer["token"]
        .as_str()
        .map(str::to_owned)
        .context("the server gave no token")
}

/// Names the page that makes API tokens, and asks for one. It is typed unseen, and sent to the
/// server that made it only.
fn pasted(client: &Client) -> anyhow::Result<String> {
    let page = client
        .server()
        .join("tokens")
        .context("the server has no such page")?;
    if !stdin().is_terminal() {
        bail!(Failure::Usage(format!(
            "--paste needs a terminal: make an API token at {page} and run `berth login --token …`, \
             or sign in with --email and --password-stdin"
        )));
    }
    note(&format!(
        "Open {page} in any browser, create a token there and paste it here."
    ));
    let token = unseen()?;
    let token = token.trim();
    ensure!(!token.is_empty(), "no token was given");
    Ok(token.to_owned())
}

/// Reads a line from the terminal without showing it.
fn unseen() -> anyhow::Result<String> {
    let before = tcgetattr(stdin()).context("the terminal does not say how it is set")?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    tcsetattr(stdin(), OptionalActions::Flush, &quiet).context("the terminal cannot be set")?;
    let mut line = String::new();
    let read = stdin().read_line(&mut line);
    tcsetattr(stdin(), OptionalActions::Now, &before).context("the terminal cannot be set back")?;
    read.context("cannot read the token")?;
    Ok(line)
}
