//! Fixtures on a real platform.

use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tests::platform::{Options, Platform};
use tests::repository::Repository;
use tests::wait;

use super::fixture::{Files, Fixture, apply, write};

/// How long a live server may take to fall and be diagnosed: restarts come after 1, 2 and 4 s,
/// and a hung one is asked for a minute.
const FALL: Duration = Duration::from_mins(3);

/// A platform for these tests: it has nothing of other tests to start.
static PLATFORM: Mutex<Option<Arc<Platform>>> = Mutex::new(None);

/// The platform whose builds time out soon.
static HASTY: Mutex<Option<Arc<Platform>>> = Mutex::new(None);

fn one(place: &Mutex<Option<Arc<Platform>>>, settings: &[(&str, &str)]) -> Result<Arc<Platform>> {
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    if place.is_none() {
        let settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        *place = Some(Arc::new(Platform::start(Options { settings })?));
    }
    place.clone().context("it was just made")
}

/// The platform of these tests.
pub fn platform() -> Result<Arc<Platform>> {
    one(&PLATFORM, &[])
}

fn platform_for(fixture: &Fixture) -> Result<Arc<Platform>> {
    if fixture.code() == "build_timeout" {
        return one(&HASTY, &[("BERTH_BUILD_TIMEOUT_SECONDS", "120")]);
    }
    platform()
}

/// Stops the platforms; called when the last test has ended.
pub fn stop() {
    for place in [&PLATFORM, &HASTY] {
        place.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Where a source is deployed from.
enum Source {
    Git(Repository),
    Directory(tempfile::TempDir),
}

impl Source {
    fn new(fixture: &Fixture, files: &Files) -> Result<Self> {
        if fixture.is("upload") {
            let directory = tempfile::TempDir::new()?;
            write(directory.path(), files)?;
            return Ok(Self::Directory(directory));
        }
        Ok(Self::Git(Repository::new(&pairs(files))?))
    }

    fn change(&self, files: &Files) -> Result<()> {
        match self {
            Self::Git(repository) => repository.commit(&pairs(files)).map(|_| ()),
            Self::Directory(directory) => write(directory.path(), files),
        }
    }

    fn deploy(
        &self,
        platform: &Platform,
        project: &str,
        fixture: &Fixture,
        entrypoint: Option<&str>,
    ) -> Result<Value> {
        let place = match self {
            Self::Git(repository) => repository.url(),
            Self::Directory(directory) => directory.path().to_string_lossy().into_owned(),
        };
        let mut arguments = vec!["deploy"];
        if matches!(self, Self::Git(_)) {
            arguments.push("--git");
        }
        arguments.extend([place.as_str(), "--project", project, "--wait", "--json"]);
        if let Some(entrypoint) = entrypoint {
            arguments.extend(["--entrypoint", entrypoint]);
        }
        if let Some(file) = fixture.text("dockerfile") {
            arguments.extend(["--dockerfile", file]);
        }
        let outcome = platform.berth(&arguments)?;
        outcome.json().with_context(|| outcome.text())
    }
}

fn pairs(files: &Files) -> Vec<(&str, &str)> {
    files
        .iter()
        .map(|(name, text)| (&**name, &**text))
        .collect()
}

/// Deploys the broken source, reads its diagnosis, applies the fix, and deploys again.
pub fn provoke(fixture: &Fixture) -> Result<()> {
    let platform = platform_for(fixture)?;
    let project = project(&fixture.name);
    let mut files = fixture.broken()?;
    let source = Source::new(fixture, &files)?;
    let done = source.deploy(&platform, &project, fixture, fixture.text("entrypoint"))?;
    let diagnosis = if fixture.is("live") {
        ensure!(
            done["state"] == "live",
            "it must live before it falls: {done}"
        );
        falls(&platform, &project, fixture.code())?
    } else {
        ensure!(done["state"] == "failed", "{done}");
        done["diagnosis"].clone()
    };
    ensure!(diagnosis["code"] == fixture.code(), "{diagnosis:#}");
    let page = diagnosis["page"].as_str().unwrap_or_default();
    ensure!(
        page.ends_with(&format!("/docs/errors#{}", fixture.code())),
        "{diagnosis:#}"
    );
    apply_fix(&platform, fixture, &project, &mut files, &diagnosis)?;
    source.change(&files)?;
    if fixture.is("lock") {
        lock(&source)?;
    }
    let entrypoint = fixture
        .text("fixed_entrypoint")
        .or(fixture.text("entrypoint"));
    let done = source.deploy(&platform, &project, fixture, entrypoint)?;
    ensure!(
        done["state"] == "live",
        "with the fix “{}”: {done:#}",
        diagnosis["fix"]
    );
    ensure!(done["diagnosis"].is_null(), "{done:#}");
    remove(&platform, &project)
}

/// Waits until a live deployment is diagnosed with this code.
fn falls(platform: &Platform, project: &str, code: &str) -> Result<Value> {
    wait::until(&format!("{project} to fall"), FALL, || {
        let newest = platform.newest(project)?;
        ensure!(newest["state"] == "live", "a live one stays live: {newest}");
        let diagnosis = newest["diagnosis"].clone();
        if diagnosis["code"] != code {
            bail!("{diagnosis}");
        }
        Ok(Some(diagnosis))
    })
}

/// Does what the diagnosis says: its edits, its entrypoint, its variables. What it says in words
/// alone stands in `fixed/`.
fn apply_fix(
    platform: &Platform,
    fixture: &Fixture,
    project: &str,
    files: &mut Files,
    diagnosis: &Value,
) -> Result<()> {
    let fix = diagnosis["fix"].as_str().context("a diagnosis has a fix")?;
    let fixed = fixture.fixed()?;
    for file in apply(files, &diagnosis["edits"])? {
        ensure!(
            files.get(&file) == fixed.get(&file),
            "the edits of {diagnosis:#} make {:?}, and the fix is {:?}",
            files.get(&file),
            fixed.get(&file)
        );
    }
    files.extend(fixed);
    if let Some(entrypoint) = fixture.text("fixed_entrypoint") {
        let named = entrypoint
            .split_once(':')
            .map_or(entrypoint, |(_, object)| object);
        ensure!(fix.contains(named), "the fix names {entrypoint}: {fix}");
    }
    for (name, value) in fixture.fixed_variables() {
        ensure!(fix.contains(&name), "the fix names {name}: {fix}");
        platform
            .berth(&["env", project, "set", &format!("{name}={value}")])?
            .success()?;
    }
    Ok(())
}

/// `uv lock`, as the fix says.
fn lock(source: &Source) -> Result<()> {
    let Source::Git(repository) = source else {
        bail!("only a repository is locked");
    };
    let output = Command::new(tests::cache().join("uv/bin/uv"))
        .arg("lock")
        .current_dir(repository.path())
        .env("UV_SYSTEM_CERTS", "1")
        .output()?;
    ensure!(
        output.status.success(),
        "uv lock: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    repository.commit(&[]).map(|_| ())
}

/// A project's name for a fixture's.
pub fn project(fixture: &str) -> String {
    let mut name = fixture.replace(['_', '.'], "-");
    name.truncate(40);
    name.trim_end_matches('-').to_owned()
}

/// Ends a project, so that a hundred of them do not run at once.
pub fn remove(platform: &Platform, project: &str) -> Result<()> {
    reqwest::blocking::Client::new()
        .delete(format!("{}/api/v1/projects/{project}", platform.url()))
        .bearer_auth(platform.token()?)
        .json(&json!({ "confirm": project }))
        .send()?
        .error_for_status()?;
    Ok(())
}

/// HTTP+SSE alone, an endpoint at `/mcp/mcp`, a host check of its own, and `mcp.run()` without a
/// guard look like errors, and are served.
pub fn only_look_wrong() -> Result<()> {
    let web =
        "from fastapi import FastAPI\nfrom fastmcp import FastMCP\n\ntools = FastMCP('notes')\n";
    let servers = [
        ("only-sse", "from fastmcp import FastMCP\n\nmcp = FastMCP('notes')\napp = mcp.http_app(transport='sse')\n".to_owned()),
        (
            "doubled",
            format!("{web}sub = tools.http_app()\napp = FastAPI(lifespan=sub.lifespan)\napp.mount('/mcp', sub)\n"),
        ),
        ("unguarded", "from fastmcp import FastMCP\n\nmcp = FastMCP('notes')\nmcp.run()\n".to_owned()),
        (
            "loop-at-import",
            "import asyncio\n\nfrom fastmcp import FastMCP\n\n\nasync def name():\n    return 'notes'\n\n\nmcp = FastMCP(asyncio.run(name()))\n".to_owned(),
        ),
    ];
    let platform = platform()?;
    for (project, code) in servers {
        let repository = Repository::new(&[
            ("main.py", &*code),
            ("requirements.txt", "fastmcp==4.1.2\nfastapi\n"),
        ])?;
        let entrypoint: &[&str] = match project {
            "only-sse" | "doubled" => &["--entrypoint", "main.py:app"],
            _ => &[],
        };
        let done = platform.deploy_live(project, &repository.url(), entrypoint)?;
        ensure!(done["diagnosis"].is_null(), "{project}: {done:#}");
        remove(&platform, project)?;
    }
    Ok(())
}

/// An installer that fails in a way that nothing recognises: the last lines, and no guess.
pub fn unknown_failure() -> Result<()> {
    let platform = platform()?;
    let code = "from fastmcp import FastMCP\n\nmcp = FastMCP('notes')\n";
    // uv refuses the option, which is no fault of a dependency.
    let repository = Repository::new(&[
        ("main.py", code),
        (
            "pyproject.toml",
            "[project]\nname = \"notes\"\nversion = \"1\"\nrequires-python = \">=3.10\"\ndependencies = [\"fastmcp==4.1.2\"]\n\n[tool.uv]\nrequired-version = \">=99\"\n",
        ),
    ])?;
    let done = platform.deploy("unknown-failure", &repository.url(), &[])?;
    let diagnosis = &done["diagnosis"];
    ensure!(diagnosis["code"] == "unknown_failure", "{done:#}");
    let cause = diagnosis["cause"].as_str().unwrap_or_default();
    ensure!(
        cause.contains("not recognised") && cause.contains("99"),
        "{cause}"
    );
    ensure!(diagnosis["edits"].is_null(), "no guess: {diagnosis:#}");
    remove(&platform, "unknown-failure")
}
