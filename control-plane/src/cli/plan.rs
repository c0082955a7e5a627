//! `berth plan`: what would be built, and why, before anything is.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use flate2::read::GzDecoder;
use reqwest::Method;
use runner::protocol::{BuildSettings, Package};
use serde_json::{Value, json};

use super::client::{Client, ClientArguments, path};
use super::exit::Failure;
use super::output::{Output, table, text};
use super::pack::pack;
use super::settings::BuildArguments;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// The directory to plan [default: the present one].
    #[arg(conflicts_with = "git")]
    path: Option<PathBuf>,

    /// A Git repository to plan instead; a runner of the server fetches it.
    #[arg(long, value_name = "URL")]
    git: Option<String>,

    /// A package of a registry to plan instead, as `berth deploy --catalogue` takes it.
    #[arg(long, value_name = "PACKAGE", conflicts_with_all = ["git", "path"])]
    catalogue: Option<String>,

    /// The branch or tag [default: the repository's own].
    #[arg(long, requires = "git")]
    branch: Option<String>,

    /// The server: `file.py`, `file.py:object`, `module:object`; for Node a file or script, for a
    /// package its program [default: looked for].
    #[arg(long)]
    entrypoint: Option<String>,

    #[command(flatten)]
    build: BuildArguments,
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    if let Some(package) = &arguments.catalogue {
        Package::parse(package).map_err(Failure::Usage)?;
    }
    let answer = match arguments.git.as_ref().or(arguments.catalogue.as_ref()) {
        Some(url) => of_repository(&client, url, &arguments).await?,
        None => of_directory(&client, &arguments).await?,
    };
    let has_plan = !answer["plan"].is_null();
    output.result(&answer, || show(&answer));
    Ok(if has_plan {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn of_repository(client: &Client, url: &str, arguments: &Arguments) -> anyhow::Result<Value> {
    let question = json!({
        "source_url": url,
        "source_branch": arguments.branch,
        "entrypoint": arguments.entrypoint,
        "build": arguments.build.change()?,
    });
    let asked = client
        .send(Method::POST, &path(&["plans"]), &question)
        .await?;
    let address = path(&["plans", text(&asked, "id")]);
    loop {
        // The server holds each of these until there is news.
        let answer = client.get(&address).await?;
        if answer["state"] == "done" {
            return Ok(json!({
                "commit": answer["commit"], "plan": answer["plan"], "diagnosis": answer["diagnosis"],
            }));
        }
    }
}

/// Plans here what `berth deploy` would send, with the runtimes that the server has.
async fn of_directory(client: &Client, arguments: &Arguments) -> anyhow::Result<Value> {
    let answer = client.get(&path(&["runtimes"])).await?;
    let images: Vec<String> = serde_json::from_value(answer["runtimes"].clone())
        .context("the server did not name its runtimes")?;
    let settings: BuildSettings = serde_json::from_value(Value::from(arguments.build.change()?))?;
    let directory = arguments.path.clone().unwrap_or_else(|| PathBuf::from("."));
    let entrypoint = arguments.entrypoint.clone();
    let planned = tokio::task::spawn_blocking(move || {
        let archive = pack(&directory)?;
        let files = GzDecoder::new(archive.file);
        runner::plan_archive(files, entrypoint.as_deref(), &settings, &images)
    });
    let planned = planned.await.context("planning was cut off")??;
    Ok(match planned {
        Ok(plan) => json!({ "commit": null, "plan": plan, "diagnosis": null }),
        Err(diagnosis) => json!({ "commit": null, "plan": null, "diagnosis": diagnosis }),
    })
}

fn show(answer: &Value) -> String {
    let plan = &answer["plan"];
    if plan.is_null() {
        let why = &answer["diagnosis"];
        return format!(
            "It cannot be built as it is: {}\nNext step: {}",
            text(why, "cause"),
            text(why, "fix")
        );
    }
    let list = |name: &str| -> Vec<&str> {
        let items = plan[name].as_array().map_or(&[][..], Vec::as_slice);
        items.iter().filter_map(Value::as_str).collect()
    };
    let mut rows = vec![("Runtime", text(plan, "runtime").to_owned())];
    let mut add = |name: &'static str, value: String| {
        if !value.is_empty() {
            rows.push((name, value));
        }
    };
    add("Entrypoint", text(plan, "entrypoint").to_owned());
    add("Start command", shell_words::join(list("start_command")));
    add("Dependencies", text(plan, "dependencies").to_owned());
    add("System packages", list("system_packages").join(", "));
    add("Build command", shell_words::join(list("build_command")));
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    let mut shown = table(&rows);
    shown.push('\n');
    for reason in list("reasons") {
        shown.push_str("\n- ");
        shown.push_str(reason);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_shown_with_its_reason() {
        let shown = show(&json!({"plan": {
            "runtime": "python:3.11", "entrypoint": "main.py", "dependencies": "requirements.txt",
            "system_packages": ["jq"], "build_command": ["make", "a b"], "start_command": [],
            "reasons": ["One.", "Two."],
        }}));
        assert!(shown.contains("Runtime          python:3.11"), "{shown}");
        assert!(shown.contains("Build command    make 'a b'"), "{shown}");
        assert!(!shown.contains("Start command"), "{shown}");
        assert!(shown.ends_with("- One.\n- Two."), "{shown}");
    }

    #[test]
    fn what_cannot_be_built_says_why() {
        let shown =
            show(&json!({"plan": null, "diagnosis": {"cause": "No file.", "fix": "Add one."}}));
        assert_eq!(
            shown,
            "It cannot be built as it is: No file.\nNext step: Add one."
        );
    }
}
