//! `berth deploy`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use reqwest::Method;
use runner::protocol::Package;
use serde_json::{Map, Value, json};

use super::client::{Client, ClientArguments, path};
use super::exit::Failure;
use super::follow::{follow, report};
use super::github::connect;
use super::output::{Output, note, text};
use super::pack::pack;
use super::settings::BuildArguments;
use crate::projects::MAX_NAME;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// The directory to deploy [default: the present one].
    #[arg(conflicts_with_all = ["git", "github", "branch", "commit"])]
    path: Option<PathBuf>,

    /// A Git repository to deploy instead.
    #[arg(long, value_name = "URL")]
    git: Option<String>,

    /// A repository of the platform's GitHub App to deploy instead; every push to its branch comes live
    /// from then on.
    #[arg(long, value_name = "OWNER/NAME", conflicts_with = "git")]
    github: Option<String>,

    /// A package of a registry to deploy instead, without any repository: `pypi:NAME`,
    /// `pypi:NAME==VERSION`, `npm:NAME` or `npm:@SCOPE/NAME@VERSION` [default: the newest version].
    #[arg(long, value_name = "PACKAGE", conflicts_with_all = ["git", "github", "path", "branch", "commit"])]
    catalogue: Option<String>,

    /// The branch or tag [default: the repository's own]. Without --git and --github: another branch
    /// of the repository that --project has, this once.
    #[arg(long)]
    branch: Option<String>,

    /// A commit, instead of the branch's newest: its id, and of repositories of the GitHub App also
    /// the beginning of one, or a tag. Without --git and --github: of the repository that --project
    /// has.
    #[arg(long)]
    commit: Option<String>,

    /// The project; it is created if it is new [default: named after what is deployed].
    #[arg(long, value_name = "NAME")]
    project: Option<String>,

    /// The server: `file.py`, `file.py:object`, `module:object`; for Node a file or script, for a
    /// package its program, each with arguments behind it [default: looked for].
    #[arg(long)]
    entrypoint: Option<String>,

    #[command(flatten)]
    build: BuildArguments,

    /// Wait until it is live, is held or has failed, and show the build.
    #[arg(long)]
    wait: bool,
}

pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    if arguments.is_of_a_project() && arguments.project.is_none() {
        bail!(Failure::Usage(
            "name the project whose --branch or --commit is meant, with --project".into()
        ));
    }
    let client = Client::signed_in(&arguments.client)?;
    let name = match &arguments.project {
        Some(name) => name.clone(),
        None => default_name(&arguments)?,
    };
    if let Some(package) = &arguments.catalogue {
        Package::parse(package).map_err(Failure::Usage)?;
    }
    let build = arguments.build.change()?;
    let url = arguments.git.as_ref().or(arguments.catalogue.as_ref());
    let new = if let Some(repository) = &arguments.github {
        from_github(&client, &name, repository, &arguments).await?
    } else if let Some(url) = url {
        Some(from_git(&client, &name, url, &arguments).await?)
    } else if arguments.is_of_a_project() {
        Some(arguments.of_a_project())
    } else {
        Some(from_directory(&client, &name, &arguments).await?)
    };
    if !build.is_empty() {
        let address = path(&["projects", &name, "build"]);
        client.send(Method::PATCH, &address, &build.into()).await?;
    }
    let address = path(&["projects", &name, "deployments"]);
    let deployment = match &new {
        Some(new) => client.send(Method::POST, &address, new).await?,
        None => newest(&client, &address).await?,
    };
    let deployment = settle(&client, deployment, arguments.wait).await?;
    Ok(report(&deployment, output))
}

impl Arguments {
    /// Whether another branch or commit of what a project has is meant.
    fn is_of_a_project(&self) -> bool {
        let named = self.branch.is_some() || self.commit.is_some();
        named && self.git.is_none() && self.github.is_none()
    }

    /// What is deployed then.
    fn of_a_project(&self) -> Value {
        let members = given(&[
            ("branch", self.branch.as_deref()),
            ("commit", self.commit.as_deref()),
            ("entrypoint", self.entrypoint.as_deref()),
        ]);
        members.into()
    }

    /// What is deployed of a repository that the project points at.
    fn of_the_branch(&self) -> Value {
        given(&[("commit", self.commit.as_deref())]).into()
    }
}

/// The deployment that a new project began with.
async fn newest(client: &Client, address: &str) -> anyhow::Result<Value> {
    let mut answer = client.get(&format!("{address}?limit=1")).await?;
    Ok(answer["deployments"][0].take())
}

/// Follows a new deployment to its end, if that is wanted.
pub async fn settle(client: &Client, deployment: Value, wait: bool) -> anyhow::Result<Value> {
    if !wait {
        return Ok(deployment);
    }
    let id = deployment["id"]
        .as_str()
        .context("the server named no deployment")?;
    follow(client, text(&deployment, "project"), id).await
}

/// Has the project point at the repository or package; answers what to deploy of it.
async fn from_git(
    client: &Client,
    name: &str,
    url: &str,
    arguments: &Arguments,
) -> anyhow::Result<Value> {
    let wanted = given(&[
        ("source_url", Some(url)),
        ("source_branch", arguments.branch.as_deref()),
        ("entrypoint", arguments.entrypoint.as_deref()),
    ]);
    match client.find(&path(&["projects", name])).await? {
        None => create(client, name, wanted).await?,
        Some(project)
            if wanted
                .iter()
                .any(|(member, value)| project[member] != *value) =>
        {
            client
                .send(Method::PATCH, &path(&["projects", name]), &wanted.into())
                .await?;
        }
        Some(_) => {}
    }
    Ok(arguments.of_the_branch())
}

/// Has the project follow a repository of the GitHub App; answers what to deploy of it, unless the
/// project was made and has begun with that.
async fn from_github(
    client: &Client,
    name: &str,
    repository: &str,
    arguments: &Arguments,
) -> anyhow::Result<Option<Value>> {
    let branch = arguments.branch.as_deref();
    let Some(project) = client.find(&path(&["projects", name])).await? else {
        let mut settings = given(&[
            ("github_repository", Some(repository)),
            ("source_branch", branch),
            ("commit", arguments.commit.as_deref()),
            ("entrypoint", arguments.entrypoint.as_deref()),
        ]);
        settings.insert("build".to_owned(), arguments.build.change()?.into());
        create(client, name, settings).await?;
        return Ok(None);
    };
    let followed = &project["github"]["full_name"];
    let is_followed = followed
        .as_str()
        .is_some_and(|followed| followed.eq_ignore_ascii_case(repository));
    if !is_followed || branch.is_some_and(|branch| project["source_branch"] != branch) {
        let wanted = json!({ "repository": repository, "branch": branch });
        connect(client, name, &wanted).await?;
        note(&format!("{name} follows {repository}."));
    }
    if let Some(entrypoint) = &arguments.entrypoint {
        let change = json!({ "entrypoint": entrypoint });
        let address = path(&["projects", name]);
        client.send(Method::PATCH, &address, &change).await?;
    }
    Ok(Some(arguments.of_the_branch()))
}

/// Sends the directory; answers what to deploy of it.
async fn from_directory(
    client: &Client,
    name: &str,
    arguments: &Arguments,
) -> anyhow::Result<Value> {
    let directory = arguments.path.clone().unwrap_or_else(|| PathBuf::from("."));
    let archive = tokio::task::spawn_blocking(move || pack(&directory))
        .await
        .context("packing was cut off")??;
    let kib = archive.size.div_ceil(1024);
    let files = if archive.files == 1 { "file" } else { "files" };
    note(&format!("Packed {} {files} ({kib} KiB).", archive.files));
    if client.find(&path(&["projects", name])).await?.is_none() {
        let settings = given(&[("entrypoint", arguments.entrypoint.as_deref())]);
        create(client, name, settings).await?;
    }
    let file = tokio::fs::File::from_std(archive.file);
    let upload = client
        .put_file(&path(&["projects", name, "uploads"]), file)
        .await?;
    let upload = upload["sha256"]
        .as_str()
        .context("the server did not name the upload")?;
    let deployment = given(&[
        ("upload", Some(upload)),
        ("entrypoint", arguments.entrypoint.as_deref()),
    ]);
    Ok(deployment.into())
}

async fn create(
    client: &Client,
    name: &str,
    mut settings: Map<String, Value>,
) -> anyhow::Result<()> {
    settings.insert("name".to_owned(), name.into());
    client
        .send(Method::POST, &path(&["projects"]), &settings.into())
        .await?;
    note(&format!("Created the project {name}."));
    Ok(())
}

/// The members that have a value.
fn given(members: &[(&str, Option<&str>)]) -> Map<String, Value> {
    members
        .iter()
        .filter_map(|(name, value)| Some(((*name).to_owned(), (*value)?.into())))
        .collect()
}

fn default_name(arguments: &Arguments) -> anyhow::Result<String> {
    let from = if let Some(url) = arguments.git.as_ref().or(arguments.github.as_ref()) {
        let last = url.trim_end_matches('/').rsplit(['/', ':']).next();
        last.unwrap_or_default().to_owned()
    } else if let Some(package) = &arguments.catalogue {
        let package = Package::parse(package).map_err(Failure::Usage)?;
        let last = package.name.rsplit('/').next();
        last.unwrap_or_default().to_owned()
    } else {
        let directory = arguments.path.as_deref().unwrap_or(Path::new("."));
        let directory = directory
            .canonicalize()
            .with_context(|| format!("cannot find {}", directory.display()))?;
        let last = directory.file_name().unwrap_or_default();
        last.to_string_lossy().into_owned()
    };
    let name = slug(from.trim_end_matches(".git"));
    if name.is_empty() {
        bail!(Failure::Usage(format!(
            "{from:?} makes no project name; give one with --project"
        )));
    }
    Ok(name)
}

/// Lower-case letters, digits and single hyphens, as project names are.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(MAX_NAME);
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_what_is_deployed() {
        assert_eq!(slug("My_Server  v2!"), "my-server-v2");
        assert_eq!(slug("--"), "");
        assert_eq!(slug(&"a".repeat(99)).len(), MAX_NAME);
    }

    #[test]
    fn absent_members_are_not_sent() {
        let members = given(&[("a", Some("1")), ("b", None)]);
        assert_eq!(Value::from(members), json!({ "a": "1" }));
    }
}
