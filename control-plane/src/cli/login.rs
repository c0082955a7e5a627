//! `berth login`

use std::io::Read as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use reqwest::Method;
use serde_json::json;

use super::client::{Client, ClientArguments, path};
use super::credentials::Credentials;
use super::exit::Failure;
use super::output::{Output, text};

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
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::anonymous(&arguments.client)?;
    let token = match (&arguments.email, &arguments.client.token) {
        (Some(email), _) => with_password(&client, email).await?,
        (None, Some(token)) => token.expose().to_owned(),
        (None, None) => bail!(Failure::Usage(format!(
            "make an API token at {} (Account, API tokens) and run `berth login --token …`, or \
             sign in with --email and --password-stdin",
            client.server()
        ))),
    };
    // A token that does not work is not kept.
    let me = client.with_token(&token).get(&path(&["me"])).await?;
    let mut credentials = Credentials::load()?;
    credentials.keep(client.server(), &token);
    let file = credentials.save()?;
    let server = client.server().as_str();
    output.result(&json!({ "server": server, "user": me }), || {
        format!("Signed in to {server} as {}; kept in {}.", text(&me, "email"), file.display())
    });
    Ok(ExitCode::SUCCESS)
}

async fn with_password(client: &Client, email: &str) -> anyhow::Result<String> {
    let mut password = String::new();
    std::io::stdin().read_to_string(&mut password).context("cannot read the password")?;
    let password = password.trim_end_matches(['\n', '\r']);
    let body = json!({ "email": email, "password": password });
    let answer = client.send(Method::POST, &path(&["login"]), &body).await?;
    answer["token"].as_str().map(str::to_owned).context("the server gave no token")
}
