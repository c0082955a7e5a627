//! `berth github`: repositories at GitHub, and projects that follow them.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use super::client::{Client, ClientArguments, path};
use super::exit::Failure;
use super::output::{Output, note, short, table, text};

/// Pages of repositories that are asked for at the most: ten thousand of them.
const MAX_PAGES: i64 = 200;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the repositories that you may deploy.
    Repositories {
        /// Only those whose name holds this.
        #[arg(long, value_name = "TEXT", default_value = "")]
        search: String,
    },
    /// Show what a project follows, and whether its pushes come live.
    Status {
        /// The project.
        project: String,
    },
    /// Have a project that is there follow a repository. Nothing is deployed until the next push.
    Connect {
        /// The project.
        project: String,

        /// The repository.
        #[arg(value_name = "OWNER/NAME")]
        repository: String,

        /// The branch whose pushes come live [default: the repository's own].
        #[arg(long)]
        branch: Option<String>,
    },
    /// Have a project follow no repository any more. What is live stays so.
    Disconnect {
        /// The project.
        project: String,
    },
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    match arguments.command {
        Command::Repositories { search } => {
            let found = repositories(&client, &search).await?;
            output.result(&found, || list(&found));
        }
        Command::Status { project } => {
            let project = client.get(&path(&["projects", &project])).await?;
            if project["github"].is_null() {
                return Err(Failure::NotFound(format!(
                    "{} follows no repository at GitHub; have it do so with `berth github connect`.",
                    text(&project, "name")
                ))
                .into());
            }
            output.result(&project["github"], || status(&project));
        }
        Command::Connect {
            project,
            repository,
            branch,
        } => {
            let wanted = json!({ "repository": repository, "branch": branch });
            let project = connect(&client, &project, &wanted).await?;
            output.result(&project["github"], || status(&project));
        }
        Command::Disconnect { project } => {
            let address = path(&["projects", &project, "github"]);
            client.send(Method::DELETE, &address, &Value::Null).await?;
            output.result(&json!({ "disconnected": project }), || {
                format!("Pushes do not come live in {project} any more; what is live stays so.")
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Has a project follow a repository; answers the project.
pub async fn connect(client: &Client, project: &str, wanted: &Value) -> anyhow::Result<Value> {
    let address = path(&["projects", project, "github"]);
    client.send(Method::PUT, &address, wanted).await
}

async fn repositories(client: &Client, search: &str) -> anyhow::Result<Value> {
    let mut found = Vec::new();
    let mut page = Some(1);
    while let Some(number) = page.filter(|number| *number <= MAX_PAGES) {
        let query = Serializer::new(String::new())
            .append_pair("search", search)
            .append_pair("page", &number.to_string())
            .finish();
        let address = format!("{}?{query}", path(&["github", "repositories"]));
        let mut answer = client.get(&address).await?;
        if let Some(why) = answer["stale"].as_str().filter(|_| number == 1) {
            note(&format!("The list may be old. {why}"));
        }
        page = answer["next_page"].as_i64();
        if let Some(all) = answer["repositories"].as_array_mut() {
            found.append(all);
        }
    }
    Ok(found.into())
}

fn list(found: &Value) -> String {
    let found = found.as_array().map_or(&[][..], Vec::as_slice);
    if found.is_empty() {
        return "No repository; show GitHub which are yours on the dashboard's page GitHub."
            .to_owned();
    }
    let head = ["REPOSITORY", "VISIBILITY", "DEFAULT BRANCH"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(found.iter().map(|it| {
        let private = it["private"] == true;
        vec![
            text(it, "full_name").to_owned(),
            if private { "private" } else { "public" }.to_owned(),
            text(it, "default_branch").to_owned(),
        ]
    }));
    table(&rows)
}

fn status(project: &Value) -> String {
    let it = &project["github"];
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("Repository", text(it, "full_name").to_owned()),
        row(
            "Branch",
            project["source_branch"]
                .as_str()
                .unwrap_or("the repository's default")
                .to_owned(),
        ),
        row("Head", short(text(it, "head")).to_owned()),
        row(
            "Pushes",
            match it["problem"].as_str() {
                Some(why) => format!("do not come live: {why}"),
                None if project["auto_promote"] == false => "wait until promoted".to_owned(),
                None => "come live".to_owned(),
            },
        ),
    ];
    if let Some(commit) = it["skipped"]["commit"].as_str() {
        let why = text(&it["skipped"], "why");
        let said = format!(
            "{}: {why} (`berth deploy --project P --commit …`)",
            short(commit)
        );
        rows.push(row("Not deployed", said));
    }
    if let Some(since) = it["unreached_since"].as_str() {
        rows.push(row("GitHub", format!("could not be reached since {since}")));
    }
    rows.push(row("Compared", text(it, "checked_at").to_owned()));
    let told = &it["last_delivery"];
    if !told.is_null() {
        let said = format!(
            "{} ({}) {}",
            text(told, "event"),
            text(told, "state"),
            text(told, "received_at")
        );
        rows.push(row("Last delivery", said));
    }
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_followed_is_said_with_what_is_wrong() {
        let mut project = json!({ "name": "p", "source_branch": null, "auto_promote": false,
            "github": { "full_name": "a/b", "head": "0123456789", "problem": null,
                "skipped": { "commit": "abcdef0123456", "why": "its message says [skip ci]" },
                "unreached_since": null, "checked_at": "2026-01-01T00:00:00Z",
                "last_delivery": { "event": "push", "state": "done", "received_at": "then" } } });
        insta::assert_snapshot!(status(&project), @r"
        Repository     a/b
        Branch         the repository's default
        Head           01234567
        Pushes         wait until promoted
        Not deployed   abcdef01: its message says [skip ci] (`berth deploy --project P --commit …`)
        Compared       2026-01-01T00:00:00Z
        Last delivery  push (done) then
        ");
        project["github"]["problem"] = json!("The branch is gone.");
        assert!(status(&project).contains("do not come live: The branch is gone."));
    }
}
