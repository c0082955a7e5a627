//! `berth projects`

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientArguments, path};
use super::output::{Output, short, table, text};
use crate::volumes::amount;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List them (what happens without a word).
    List,
    /// Show one.
    Show {
        /// Its name.
        project: String,
    },
    /// Change a project's settings.
    Set {
        /// Its name.
        project: String,

        #[command(flatten)]
        settings: Settings,
    },
    /// Delete one, with its deployments, variables and persistent files.
    Delete {
        /// Its name.
        project: String,
    },
}

/// What `set` changes.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Settings {
    /// Hold deployments that would break callers until someone promotes them.
    #[arg(long, value_name = "on|off", value_parser = ["on", "off"])]
    hold_breaking: Option<String>,

    /// Give the server a Redis of the project's own, in REDIS_URL and FASTMCP_DOCKET_URL. The live
    /// server restarts with it: the same build, no call dropped.
    #[arg(long, value_name = "on|off", value_parser = ["on", "off"])]
    redis: Option<String>,

    /// Give pull requests of its GitHub repository previews, each under an address of its own.
    #[arg(long, value_name = "on|off", value_parser = ["on", "off"])]
    previews: Option<String>,
    /// The production branch, whose pushes come live; '' for the repository's default.
    #[arg(long)]
    branch: Option<String>,

    /// Promote what pushes bring once it answers; off: it waits until someone promotes it.
    #[arg(long, value_name = "on|off", value_parser = ["on", "off"])]
    auto_promote: Option<String>,

    /// Deploy a push only when it changes something under this, a pattern as in .gitignore; again
    /// for more of them, '' for everything.
    #[arg(long, value_name = "PATTERN")]
    watch_path: Vec<String>,

    /// Let changes under this count for nothing; again for more patterns, '' for none.
    #[arg(long, value_name = "PATTERN")]
    ignored_path: Vec<String>,
}

impl Settings {
    /// The members of `PATCH /projects/{project}` that were given.
    fn change(&self) -> Value {
        let given = [
            ("hold_breaking", &self.hold_breaking),
            ("redis", &self.redis),
            ("previews", &self.previews),
            ("auto_promote", &self.auto_promote),
        ];
        let switches = given.into_iter().filter_map(|(name, value)| {
            let is_on = value.as_deref()? == "on";
            Some((name, Value::from(is_on)))
        });
        let lists = [
            ("watch_paths", &self.watch_path),
            ("ignored_paths", &self.ignored_path),
        ];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        let lists = lists.map(|(name, list)| {
            let given: Vec<&str> = list.iter().map(String::as_str).collect();
            let given = given.into_iter().filter(|it| !it.is_empty());
            (name, given.collect())
        });
        let branch = self.branch.iter().map(|name| {
            let named = Some(name.as_str()).filter(|name| !name.is_empty());
            ("source_branch", Value::from(named))
        });
        let all = switches.chain(lists).chain(branch);
        Value::Object(all.map(|(name, it)| (name.to_owned(), it)).collect())
    }
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    match arguments.command.unwrap_or(Command::List) {
        Command::List => {
            let answer = client.get(&path(&["projects"])).await?;
            output.result(&answer["projects"], || list(&answer));
        }
        Command::Show { project } => {
            let answer = client.get(&path(&["projects", &project])).await?;
            output.result(&answer, || show(&answer));
        }
        Command::Set { project, settings } => {
            let change = settings.change();
            let answer = client
                .send(Method::PATCH, &path(&["projects", &project]), &change)
                .await?;
            output.result(&answer, || show(&answer));
        }
        Command::Delete { project } => {
            client
                .send(Method::DELETE, &path(&["projects", &project]), &Value::Null)
                .await?;
            output.result(&json!({ "deleted": project }), || {
                format!("Deleted {project}.")
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn live(project: &Value) -> String {
    match project["live"]["number"].as_i64() {
        Some(number) => format!("{number} ({})", short(text(&project["live"], "commit"))),
        None => "-".to_owned(),
    }
}

fn revision(variables: &Value) -> String {
    let (newest, live) = (&variables["revision"], &variables["live"]["revision"]);
    if live.is_null() || live == newest {
        format!("revision {newest}")
    } else {
        format!("revision {live}, the newest is {newest}")
    }
}

fn list(answer: &Value) -> String {
    let projects = answer["projects"].as_array().map_or(&[][..], Vec::as_slice);
    if projects.is_empty() {
        return "No projects yet; deploy one with `berth deploy`.".to_owned();
    }
    let mut rows = vec![vec![
        "PROJECT".to_owned(),
        "LIVE".to_owned(),
        "URL".to_owned(),
    ]];
    rows.extend(projects.iter().map(|project| {
        vec![
            text(project, "name").to_owned(),
            live(project),
            text(project, "url").to_owned(),
        ]
    }));
    table(&rows)
}

fn show(project: &Value) -> String {
    let row = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
    table(&[
        row("Project", text(project, "name")),
        row("URL", text(project, "url")),
        row("Access", text(project, "access")),
        row("Dashboard", text(project, "dashboard_url")),
        row("Live", &live(project)),
        row("Source", text(project, "source_url")),
        row("Branch", text(project, "source_branch")),
        row("Entrypoint", text(project, "entrypoint")),
        row(
            "Breaking changes",
            if project["hold_breaking"] == true {
                "held until promoted"
            } else {
                "go live"
            },
        ),
        row(
            "Pushes",
            if project["auto_promote"] == false {
                "held until promoted"
            } else {
                "go live"
            },
        ),
        row(
            "Watch paths",
            &patterns(project, "watch_paths", "everything"),
        ),
        row("Ignored paths", &patterns(project, "ignored_paths", "none")),
        row("GitHub", text(&project["github"], "full_name")),
        row("Variables", &revision(&project["variables"])),
        row("/data", &stored(project, "data")),
        row("Redis", &redis(project)),
    ])
}

fn patterns(project: &Value, name: &str, otherwise: &str) -> String {
    let list = project[name].as_array().map_or(&[][..], Vec::as_slice);
    let list: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    if list.is_empty() {
        otherwise.to_owned()
    } else {
        list.join(", ")
    }
}

fn redis(project: &Value) -> String {
    let stored = stored(project, "redis");
    match (project["redis"] == true, stored.as_str()) {
        (true, "nothing yet") => "on".to_owned(),
        (true, _) => format!("on; {stored}"),
        (false, "nothing yet") => "off".to_owned(),
        (false, _) => format!("off; its data is kept: {stored}"),
    }
}

/// How much of a project's persistent files there is, as last reported.
fn stored(project: &Value, kind: &str) -> String {
    let volumes = project["volumes"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(volume) = volumes.iter().find(|volume| volume["kind"] == kind) else {
        return "nothing yet".to_owned();
    };
    let used = volume["used_bytes"]
        .as_i64()
        .map_or("an unknown amount".to_owned(), amount);
    if let Some(reason) = volume["watched"].as_str() {
        return format!("{used}; the size is only watched, not limited: {reason}");
    }
    match volume["size_bytes"].as_i64() {
        Some(size) => format!("{used} of {}", amount(size)),
        None => used,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_is_changed_and_nothing_between_quotes_clears() {
        let change = |settings: Settings| settings.change();
        let none = Settings {
            hold_breaking: None,
            redis: None,
            previews: None,
            branch: None,
            auto_promote: None,
            watch_path: Vec::new(),
            ignored_path: Vec::new(),
        };
        assert_eq!(
            change(Settings {
                branch: Some(String::new()),
                auto_promote: Some("off".into()),
                watch_path: vec!["a/".into(), "{b,c}/".into()],
                ignored_path: vec![String::new()],
                ..none
            }),
            json!({ "auto_promote": false, "watch_paths": ["a/", "{b,c}/"], "ignored_paths": [],
                "source_branch": null })
        );
    }

    #[test]
    fn what_is_stored_is_said_with_its_limit_or_that_there_is_none() {
        let mut project = json!({ "redis": true, "volumes": [
            { "kind": "data", "used_bytes": 5_500_000, "size_bytes": 1_020_000_000, "watched": null },
        ] });
        assert_eq!(stored(&project, "data"), "5.2 MiB of 972.7 MiB");
        assert_eq!(redis(&project), "on");
        project["volumes"][0]["watched"] = json!("mount failed: no");
        assert_eq!(
            stored(&project, "data"),
            "5.2 MiB; the size is only watched, not limited: mount failed: no"
        );
        project["redis"] = json!(false);
        assert_eq!(redis(&project), "off");
    }
}
