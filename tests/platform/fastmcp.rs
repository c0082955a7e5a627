//! Every feature of FastMCP in each of its major versions: a server from a Git repository, and the
//! same version's client through the public URL. `docs/features.md` is held to what is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tests::mcp::Caller;
use tests::platform::{self, Platform};
use tests::repository::Repository;
use tests::{python, wait};

use crate::Test;
use crate::requirements::api;

pub const TESTS: &[Test] = &[
    ("fastmcp::every_feature_of_2_14_7", || {
        every_feature(&MAJORS[0])
    }),
    ("fastmcp::every_feature_of_3_4_10", || {
        every_feature(&MAJORS[1])
    }),
    ("fastmcp::every_feature_of_4_1_2", || {
        every_feature(&MAJORS[2])
    }),
    (
        "fastmcp::every_row_of_the_table_is_tried",
        every_row_of_the_table_is_tried,
    ),
];

/// A major version.
pub struct Major {
    /// What projects are called by.
    pub number: &'static str,
    /// Its newest version of which the table speaks.
    pub version: &'static str,
    main: &'static str,
    requirements: &'static str,
    /// The client's environment, and what is in it.
    client: (&'static str, &'static str),
}

/// The columns of the table.
pub const MAJORS: [Major; 3] = [
    Major {
        number: "2",
        version: "2.14.7",
        main: include_str!("../servers/features/main_2.py"),
        requirements: "fastmcp==2.14.7\nfastapi\n",
        client: ("client-fastmcp-2", "fastmcp==2.14.7"),
    },
    Major {
        number: "3",
        version: "3.4.10",
        main: include_str!("../servers/features/main_3.py"),
        requirements: "fastmcp[tasks]==3.4.10\npy-key-value-aio[disk,redis]\nfastapi\n",
        client: ("client-fastmcp-3", "fastmcp==3.4.10"),
    },
    Major {
        number: "4",
        version: "4.1.2",
        main: include_str!("../servers/features/main_4.py"),
        requirements: "fastmcp[tasks]==4.1.2\npy-key-value-aio[disk,redis]\nfastapi\n",
        client: ("client-fastmcp-4-tasks", "fastmcp[tasks]==4.1.2"),
    },
];

/// The files of every major version's repository, besides `main.py`.
const FILES: &[(&str, &str)] = &[
    ("common.py", include_str!("../servers/features/common.py")),
    (
        "handshake.py",
        include_str!("../servers/features/handshake.py"),
    ),
    ("later.py", include_str!("../servers/features/later.py")),
    (
        "in_redis.py",
        include_str!("../servers/features/in_redis.py"),
    ),
    ("api.py", include_str!("../servers/features/api.py")),
    (
        "components/harbour.py",
        include_str!("../servers/features/components/harbour.py"),
    ),
    (
        "skills/knots/SKILL.md",
        include_str!("../servers/features/skills/knots/SKILL.md"),
    ),
    (
        "skills/knots/bends.md",
        include_str!("../servers/features/skills/knots/bends.md"),
    ),
];

/// Rows that other tests try: the four patterns of authentication, each a server of its own.
const ELSEWHERE: &[&str] = &[
    "authentication: JWTVerifier",
    "authentication: RemoteAuthProvider",
    "authentication: OAuthProxy",
    "authentication: OAuthProvider",
];

/// The key of the server's store: 32 bytes in base64, as Fernet has it.
const STORAGE_KEY: &str = "YmVydGgtdGVzdHMtYmVydGgtdGVzdHMtYmVydGgtdGU=";

impl Major {
    /// An interpreter with its client.
    pub fn python(&self) -> Result<PathBuf> {
        let (environment, package) = self.client;
        python::environment(environment, &[package])
    }
}

/// A project with a major version's repository.
struct Server<'a> {
    platform: Arc<Platform>,
    project: String,
    major: &'a Major,
    repository: Repository,
}

impl<'a> Server<'a> {
    /// Makes the project; nothing is deployed yet.
    fn create(major: &'a Major) -> Result<Self> {
        let mut files = FILES.to_vec();
        files.push(("main.py", major.main));
        files.push(("requirements.txt", major.requirements));
        let repository = Repository::new(&files)?;
        let platform = platform::shared()?;
        let project = format!("features-of-{}", major.number);
        let made = json!({ "name": project, "source_url": repository.url() });
        api(&platform, Method::POST, "/projects", &made)?;
        let key = json!({ "name": "STORAGE_ENCRYPTION_KEY", "value": STORAGE_KEY });
        let path = format!("/projects/{project}/variables");
        api(&platform, Method::PATCH, &path, &json!({ "set": [key] }))?;
        Ok(Self {
            platform,
            project,
            major,
            repository,
        })
    }

    /// Deploys another commit, and waits until the edge sends new requests to it.
    fn deploy(&self, entrypoint: &str, mark: &str) -> Result<String> {
        let commit = self.repository.commit(&[("mark.txt", mark)])?;
        self.platform.deploy_live(
            &self.project,
            &self.repository.url(),
            &["--entrypoint", entrypoint],
        )?;
        let caller = Caller::new(&self.platform, &self.project)?;
        wait::until("the edge to know", Duration::from_secs(30), || {
            let answer = caller.call("observed", &json!({}))?;
            let from = answer.headers().get("berth-commit");
            Ok(from.is_some_and(|from| from == &*commit).then_some(()))
        })?;
        Ok(commit)
    }

    /// Gives the project a Redis of its own, and so `REDIS_URL` and `FASTMCP_DOCKET_URL`.
    fn give_redis(&self) -> Result<()> {
        let set = ["projects", "set", &self.project, "--redis", "on"];
        self.platform.berth(&set)?.success()?;
        Ok(())
    }

    /// Goes through the features of one part with the real client.
    fn visit(&self, part: &str, expected: &Value) -> Result<()> {
        let output = Command::new(self.major.python()?)
            .arg(python::client("python").join("features.py"))
            .args([part, &self.platform.mcp_url(&self.project)])
            .env(
                "TEST_ACCESS_TOKEN",
                Caller::new(&self.platform, &self.project)?.token(),
            )
            .output()?;
        let (stdout, stderr) = (String::from_utf8(output.stdout)?, output.stderr);
        let (mut features, mut wrong) = (BTreeSet::new(), Vec::new());
        for line in stdout.lines() {
            let said: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let feature = said["feature"].as_str().context("no feature")?.to_owned();
            if let Err(error) = self.judge(&feature, &said, &expected[&feature]) {
                wrong.push(format!("{feature}: {error:#}"));
            }
            features.insert(feature);
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        let all: BTreeSet<String> = expected
            .as_object()
            .context("features")?
            .keys()
            .cloned()
            .collect();
        ensure!(
            features == all,
            "{part}: only {features:?}: {}",
            String::from_utf8_lossy(&stderr)
        );
        Ok(())
    }

    fn judge(&self, feature: &str, said: &Value, expected: &Value) -> Result<()> {
        if let Some(failed) = said["failed"].as_str() {
            bail!("{failed}");
        }
        let has = said["lacks"].is_null();
        if has {
            let saw = &said["saw"];
            ensure!(saw == expected, "{saw} is not {expected}");
        }
        hold(feature, self.major.version, has)
    }
}

fn every_feature(major: &Major) -> Result<()> {
    let server = Server::create(major)?;
    let commit = server.deploy("main.py:mcp", "first")?;
    server.visit("features", &features(&commit))?;
    server.deploy("api.py:app", "a FastAPI application")?;
    server.visit("api", &of_the_application())?;
    // Two deployments later the first one's files are there.
    let commit = server.deploy("main.py:mcp", "redeployed")?;
    let kept = json!({ "store": "north", "home": "north", "commit": commit });
    server.visit("redeployed", &json!({ "storage on disk": kept }))?;
    server.give_redis()?;
    let commit = server.deploy("main.py:mcp", "with Redis")?;
    server.visit("redis", &in_redis(&commit))?;
    let commit = server.deploy("main.py:mcp", "redeployed with Redis")?;
    let kept = json!({ "storage in Redis": { "value": "north", "commit": commit } });
    server.visit("redis redeployed", &kept)
}

/// What every version must be seen to do that has the feature.
fn features(commit: &str) -> Value {
    let png = json!(["data:image/png;base64", "image/png", ["1x1"]]);
    let lifespan = json!({ "context": { "opened": "the ledger" }, "starts": ["features"] });
    let refused = "Rate limit exceeded for client: calls";
    let mut all = json!({
        "tools": {
            "schema": "integer",
            "output": ["number", "paid"],
            "read_only": true,
            "structured": { "number": 4, "paid": true },
            "refusal": "No such order.",
        },
        "resources": { "text": "Hello.", "kind": "image/png", "bytes": 69 },
        "resource templates": { "listed": true, "read": { "number": 7, "part": "hull" } },
        "prompts": {
            "arguments": [["topic", true], ["tone", false]],
            "text": "Review ropes; be kind.",
        },
        "elicitation": { "text": "Hello, Ada!", "questions": ["What is your name?"] },
        "progress": {
            "text": "worked",
            "progress": [[1.0, 2.0, "step 1 of 2"], [2.0, 2.0, "step 2 of 2"]],
            "logs": ["step 1", "step 2"],
        },
        "sampling": { "text": "berth", "prompts": ["Say a word."] },
        "sampling with tools": {
            "text": "It costs 6.",
            "prompts": ["What does an anchor cost?", "6 by price"],
        },
        "background tasks in memory": {
            "before": "working", "after": "completed", "text": "done in the background",
        },
        "storage on disk": {
            "in": "/data/fastmcp", "store": "north", "home": "north", "commit": commit,
        },
        "lifespans": { "first": lifespan, "second": lifespan },
        "middleware": {
            "own": ["Welcome, Ada. Signed, the doorkeeper.", "Members only."],
            "caching": ["1", "1"],
            "rate_limiting": ["no refusal but answered", "no refusal but answered", refused],
            "tool_injection": ["injected", "injected"],
            "timing, logging, error_handling": { "timed": true, "logged": true, "failed": [refused] },
        },
        "middleware: PromptToolMiddleware, ResourceToolMiddleware": {
            "prompt": true, "resource": true,
        },
        "composition: mount": {
            "tool": "Rain in Oslo.",
            "resource": ["Oslo"],
            "prompt": "What do I pack for Oslo?",
            "live": "late",
        },
        "composition: import_server": { "tool": "early", "live": false },
        "composition: proxy": { "text": "42" },
        "icons": {
            "icons": [png, png, png, png], "site": "https://features.example", "version": "7.1",
        },
        "OpenAPI": {
            "tool": "rope",
            "resource": ["anchor", "rope"],
            "template": { "number": 0, "name": "anchor" },
        },
    });
    let all = all.as_object_mut().expect("an object");
    all.append(&mut since_3());
    Value::Object(std::mem::take(all))
}

/// The same for what came with FastMCP 3.
fn since_3() -> serde_json::Map<String, Value> {
    let mut all = json!({
        "providers: FileSystemProvider": {
            "tool": "12", "resource": "high at noon", "prompt": "Ahoy, Argo!",
        },
        "providers: SkillsDirectoryProvider": {
            "skill": true,
            "file": "A sheet bend joins two lines.\n",
            "files": ["SKILL.md", "bends.md"],
        },
        "providers: OpenAPIProvider": { "tool": { "number": 0, "name": "anchor" } },
        "providers: ProxyProvider": { "text": "8" },
        "transforms: Namespace, VersionFilter": { "text": "old tax" },
        "transforms: ResourcesAsTools, PromptsAsTools": { "prompt": true, "resource": "a note" },
        "versions of a component": {
            "usual": "the second quote", "first": "the first quote", "listed": 1,
        },
        "session state": {
            "same": ["None, now tea", "tea, now rum"], "other": "None, now milk",
        },
        "tool timeouts": { "refusal": true },
    });
    std::mem::take(all.as_object_mut().expect("an object"))
}

/// The same for the FastAPI application.
fn of_the_application() -> Value {
    json!({
        "FastAPI conversion": {
            "tools": ["launch", "ship"],
            "launch": { "launched": "bo" },
            "ship": { "name": "bo", "metres": 7 },
        },
        "FastAPI mount": { "ship": { "name": "ada", "metres": 12 } },
    })
}

/// The same for what is kept in Redis.
fn in_redis(commit: &str) -> Value {
    json!({
        "background tasks in Redis": {
            "where": "redis",
            "before": "working",
            "after": "completed",
            "text": "done in the background",
        },
        "storage in Redis": { "value": "north", "commit": commit },
    })
}

/// What was seen, by row and column.
static SEEN: Mutex<BTreeMap<(String, &'static str), bool>> = Mutex::new(BTreeMap::new());

/// Notes that a version has a feature, or lacks it, and holds the table to it.
pub fn hold(feature: &str, version: &'static str, has: bool) -> Result<()> {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    seen.insert((feature.to_owned(), version), has);
    drop(seen);
    let table = table()?;
    let row = table
        .get(feature)
        .with_context(|| format!("docs/features.md has no row {feature}"))?;
    let cell = row.get(version).context("no such column")?;
    ensure!(
        has == (cell == "yes") && !cell.is_empty(),
        "docs/features.md says of {version}: {cell}"
    );
    Ok(())
}

/// Prints what was seen of every version that ran.
pub fn print_table() {
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let rows: BTreeSet<&String> = seen.keys().map(|(feature, _)| feature).collect();
    if rows.is_empty() {
        return;
    }
    println!("\n| feature | {} |", MAJORS.map(|m| m.version).join(" | "));
    println!("|---|{}", "---|".repeat(MAJORS.len()));
    for row in rows {
        let cells = MAJORS.map(|m| match seen.get(&(row.clone(), m.version)) {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not tried",
        });
        println!("| {row} | {} |", cells.join(" | "));
    }
}

/// The rows of the manual's table, each with its cells by version.
fn table() -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let manual = std::fs::read_to_string(tests::root().join("docs/features.md"))?;
    let mut rows = manual
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").map(str::to_owned).collect::<Vec<_>>());
    let head = rows.next().context("docs/features.md has no table")?;
    rows.map(|row| {
        ensure!(row.len() == head.len(), "docs/features.md: {row:?}");
        let cells = head.iter().cloned().zip(row.iter().cloned()).skip(1);
        Ok((row[0].clone(), cells.collect()))
    })
    .collect()
}

fn every_row_of_the_table_is_tried() -> Result<()> {
    let mut tried: BTreeSet<String> = ELSEWHERE.iter().map(ToString::to_string).collect();
    for part in [features(""), of_the_application(), in_redis("")] {
        tried.extend(part.as_object().context("features")?.keys().cloned());
    }
    let rows: BTreeSet<String> = table()?.into_keys().collect();
    let odd: Vec<_> = rows.symmetric_difference(&tried).collect();
    ensure!(odd.is_empty(), "only in one of test and table: {odd:?}");
    Ok(())
}
