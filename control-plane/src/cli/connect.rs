//! `berth connect`

use std::process::ExitCode;

use serde_json::Value;

use super::client::{Client, ClientArguments, path};
use super::exit::Failure;
use super::output::{Output, note, table, text};
use crate::connect::Credential;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    server: ClientArguments,

    /// The project.
    project: String,

    /// Print what this client is told, and nothing else; without it, list the clients.
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,

    /// Let the client show an API token instead of signing in.
    #[arg(long)]
    api_token: bool,

    /// Which of several ways to tell the client [default: the usual one].
    #[arg(long, value_name = "KIND", requires = "client", value_parser = ["link", "command", "json", "toml", "program", "steps"])]
    kind: Option<String>,
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&arguments.server)?;
    let mut address = path(&["projects", &arguments.project, "connect"]);
    if arguments.api_token {
        address.push_str("?credential=");
        address.push_str(Credential::ApiToken.name());
    }
    let answer = client.get(&address).await?;
    let Some(id) = arguments.client else {
        output.result(&answer, || list(&answer["clients"]));
        return Ok(ExitCode::SUCCESS);
    };
    let guide = all(&answer["clients"])
        .iter()
        .find(|guide| guide["id"] == id.as_str())
        .ok_or_else(|| unknown(&id, &answer["clients"]))?;
    let snippet = snippet(guide, arguments.kind.as_deref())?;
    output.result(guide, || text(snippet, "text").to_owned());
    if !output.is_json() {
        for line in all(&guide["notes"]) {
            note(line.as_str().unwrap_or_default());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn all(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn list(clients: &Value) -> String {
    let mut rows = vec![vec![
        "CLIENT".to_owned(),
        "NAME".to_owned(),
        "KINDS".to_owned(),
    ]];
    rows.extend(all(clients).iter().map(|guide| {
        vec![
            text(guide, "id").to_owned(),
            text(guide, "title").to_owned(),
            kinds(guide).join(", "),
        ]
    }));
    table(&rows)
}

fn kinds(guide: &Value) -> Vec<&str> {
    all(&guide["snippets"])
        .iter()
        .map(|snippet| text(snippet, "kind"))
        .collect()
}

/// The snippet of this kind, or the usual one.
fn snippet<'a>(guide: &'a Value, kind: Option<&str>) -> Result<&'a Value, Failure> {
    all(&guide["snippets"])
        .iter()
        .find(|snippet| kind.is_none_or(|kind| snippet["kind"] == kind))
        .ok_or_else(|| {
            Failure::NotFound(format!(
                "{} has nothing of this kind for this project; there is {}",
                text(guide, "title"),
                kinds(guide).join(", ")
            ))
        })
}

fn unknown(id: &str, clients: &Value) -> Failure {
    let ids: Vec<&str> = all(clients).iter().map(|guide| text(guide, "id")).collect();
    Failure::NotFound(format!(
        "no client is called {id:?}; there are {}",
        ids.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_usual_snippet_comes_first_and_others_are_named() {
        let guide = json!({ "id": "a", "title": "A", "snippets": [
            { "kind": "link", "text": "a:b" },
            { "kind": "json", "text": "{}" },
        ] });
        assert_eq!(snippet(&guide, None).unwrap()["text"], "a:b");
        assert_eq!(snippet(&guide, Some("json")).unwrap()["text"], "{}");
        let why = snippet(&guide, Some("toml")).unwrap_err().to_string();
        assert!(why.ends_with("there is link, json"), "{why}");
        let why = unknown("b", &json!([guide])).to_string();
        assert!(why.ends_with("there are a"), "{why}");
    }
}
