//! `berth diff`

use std::process::ExitCode;

use serde_json::Value;

use super::client::{Client, ClientArguments, path};
use super::deployments::find_newest;
use super::exit::Failure;
use super::output::{Output, table, text};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "With --exit-code the exit code is 1 when something breaks callers, for scripts."
)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// The project.
    project: String,

    /// The deployment: its number or id [default: the newest].
    deployment: Option<String>,

    /// What to compare it with [default: the deployment that it replaced, or would replace].
    #[arg(long, value_name = "DEPLOYMENT")]
    with: Option<String>,

    /// Exit with 1 when something breaks callers.
    #[arg(long)]
    exit_code: bool,
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.client)?;
    let deployment = match arguments.deployment {
        Some(deployment) => deployment,
        None => find_newest(&client, &arguments.project).await?,
    };
    let answer = diff(
        &client,
        &arguments.project,
        &deployment,
        arguments.with.as_deref(),
    )
    .await?;
    output.result(&answer, || list(&answer));
    Ok(if arguments.exit_code && answer["breaking"] == true {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn diff(
    client: &Client,
    project: &str,
    deployment: &str,
    with: Option<&str>,
) -> anyhow::Result<Value> {
    let address = path(&["projects", project, "deployments", deployment, "diff"]);
    let address = match with {
        // Deployments are numbers and ids, which no URL needs escaped; the server says what else is wrong.
        Some(with) if with.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
            format!("{address}?with={with}")
        }
        Some(with) => {
            return Err(Failure::Usage(format!("{with:?} is no deployment's number or id")).into());
        }
        None => address,
    };
    client.get(&address).await
}

/// The changes for people.
pub fn list(answer: &Value) -> String {
    let number = &answer["deployment"];
    if answer["with"].is_null() {
        return format!("Deployment {number} replaces nothing, so there is nothing to compare.");
    }
    let with = &answer["with"];
    if answer["compared"] == false {
        return format!(
            "Deployment {number} or {with} never answered, so they cannot be compared."
        );
    }
    let changes = answer["changes"].as_array().map_or(&[][..], Vec::as_slice);
    if changes.is_empty() {
        return format!("Deployment {number} offers exactly what {with} did.");
    }
    let rows: Vec<Vec<String>> = changes
        .iter()
        .map(|change| {
            let cell = |name| text(change, name).to_owned();
            vec![cell("class"), cell("subject"), cell("text")]
        })
        .collect();
    format!(
        "Deployment {number} compared with {with}:\n{}",
        table(&rows)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_listed_and_none_are_said() {
        let mut answer = json!({ "deployment": 2, "with": 1, "compared": true, "changes": [
            { "class": "breaking", "subject": "tool add", "text": "It is gone." },
            { "class": "safe", "subject": "tool sum", "text": "It is new." },
        ] });
        insta::assert_snapshot!(list(&answer), @r"
        Deployment 2 compared with 1:
        breaking  tool add  It is gone.
        safe      tool sum  It is new.
        ");
        answer["changes"] = json!([]);
        assert_eq!(list(&answer), "Deployment 2 offers exactly what 1 did.");
        answer["compared"] = json!(false);
        assert!(list(&answer).contains("never answered"));
        answer["with"] = Value::Null;
        assert!(list(&answer).contains("replaces nothing"));
    }
}
