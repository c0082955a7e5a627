//! What projects of different organizations share of their dependencies, and that no build can
//! change it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::platform::{Options, Platform};
use tests::repository::Repository;

use crate::Test;
use crate::servers::{FASTMCP, list_and_call};

pub const TESTS: &[Test] = &[
    (
        "wheels::organizations_share_what_no_build_can_change",
        organizations_share_what_no_build_can_change,
    ),
    (
        "wheels::a_wheel_with_other_bytes_is_refused",
        a_wheel_with_other_bytes_is_refused,
    ),
];

const REQUIREMENTS: &str = "fastmcp==4.1.2\n";

/// Resolving reads this and does not run `setup.py`, where there are no packages yet.
const PACKAGE: &str = r#"
[project]
name = "hostile"
version = "1.0"

[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
"#;

/// A package of the project itself, whose build tries whatever could reach shared files, and keeps
/// what came of it.
const SETUP: &str = r#"
import glob, importlib.util, os, setuptools

FOUND = glob.glob("/env/lib/python3*/site-packages")
SITE = FOUND[0] if FOUND else ""
SHARED = SITE + "/fastmcp/__init__.py"
COMPILED = importlib.util.cache_from_source(SHARED)

def write(path, mode):
    with open(path, mode) as file:
        file.write("planted")

def through_a_link():
    os.link(SHARED, SITE + "/linked.py")
    write(SITE + "/linked.py", "a")

def through_a_symbolic_link():
    os.symlink(SHARED, SITE + "/symbolic.py")
    write(SITE + "/symbolic.py", "a")

def by_its_descriptor():
    descriptor = os.open(SHARED, os.O_RDONLY)
    write(f"/proc/self/fd/{descriptor}", "a")

ATTEMPTS = {
    "append": lambda: write(SHARED, "a"),
    "replace": lambda: write(SHARED, "w"),
    "bytecode": lambda: write(COMPILED, "r+"),
    "truncate": lambda: os.truncate(SHARED, 0),
    "mode": lambda: os.chmod(SHARED, 0o666),
    "owner": lambda: os.chown(SHARED, os.getuid(), -1),
    "attribute": lambda: os.setxattr(SHARED, "user.planted", b"1"),
    "time": lambda: os.utime(SHARED, (1, 1)),
    "link": through_a_link,
    "symbolic link": through_a_symbolic_link,
    "descriptor": by_its_descriptor,
    "store": lambda: write("/wheels/cache/planted", "w"),
}

def attack():
    outcomes = {}
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
            outcomes[name] = "done"
        except OSError as error:
            outcomes[name] = type(error).__name__

    # What it may do: replace what its own environment has under that name.
    with open(SHARED) as file:
        text = file.read()
    os.unlink(SHARED)
    os.unlink(COMPILED)
    with open(SHARED, "w") as file:
        file.write(text + "\nPLANTED = True\n")

    os.makedirs("hostile", exist_ok=True)
    with open("hostile/__init__.py", "w") as file:
        file.write(f"OUTCOMES = {outcomes!r}\n")

# Once: setup.py runs several times.
if FOUND and not os.path.exists("hostile/__init__.py"):
    attack()
setuptools.setup(packages=["hostile"])
"#;

/// Tells what came of it.
const TELLS: &str = r#"
import fastmcp, hostile

mcp = fastmcp.FastMCP("hostile")

@mcp.tool
def outcomes() -> dict:
    """What the build could do."""
    return {"planted here": getattr(fastmcp, "PLANTED", False), **hostile.OUTCOMES}
"#;

/// A file's bytes, mode, owner and time.
type Print = (Vec<u8>, u32, u32, i64);

fn organizations_share_what_no_build_can_change() -> Result<()> {
    let platform = Platform::start(Options::default())?;
    let files = [("main.py", FASTMCP), ("requirements.txt", REQUIREMENTS)];
    let repository = Repository::new(&files)?;
    project(&platform, "first", "first organization", &repository)?;
    platform.deploy_live("first", &repository.url(), &[])?;
    let log = platform.berth(&["logs", "first", "--build"])?.text();
    ensure!(log.contains("Packages: 0 were on this machine"), "{log}");
    let first = environments(&platform)?;
    let [ours] = first.as_slice() else {
        anyhow::bail!("not one environment: {first:?}");
    };
    let before = prints(ours)?;

    project(&platform, "hostile", "hostile organization", &repository)?;
    let requirements = format!("{REQUIREMENTS}./package\n");
    let attack = Repository::new(&[
        ("main.py", TELLS),
        ("requirements.txt", &requirements),
        ("package/pyproject.toml", PACKAGE),
        ("package/setup.py", SETUP),
    ])?;
    platform.deploy_live("hostile", &attack.url(), &[])?;
    let told = list_and_call(&platform, "hostile", "outcomes", "{}")?;
    let text = told["text"][0].as_str().context("no answer")?;
    let mut outcomes: BTreeMap<String, Value> = serde_json::from_str(text)?;
    // The attack ran where it says, and changed its own environment.
    ensure!(
        outcomes.remove("planted here") == Some(json!(true)),
        "{text}"
    );
    ensure!(outcomes.len() == 12, "{text}");
    for (attempt, outcome) in &outcomes {
        let expected = if attempt == "store" {
            "FileNotFoundError"
        } else {
            "PermissionError"
        };
        ensure!(outcome == expected, "{attempt}: {outcome}");
    }
    ensure!(prints(ours)? == before, "the other project's files changed");

    // Whoever comes next gets the same files, and downloads nothing.
    project(&platform, "second", "second organization", &repository)?;
    platform.deploy_live("second", &repository.url(), &[])?;
    let log = platform.berth(&["logs", "second", "--build"])?.text();
    ensure!(
        log.contains("were on this machine, 0 were downloaded."),
        "{log}"
    );
    let all = environments(&platform)?;
    ensure!(all.len() == 3, "{all:?}");
    let theirs = all
        .iter()
        .find(|path| *path != ours && !path.join("lib/python3.11/site-packages/hostile").exists())
        .context("the second project's environment")?;
    let theirs = prints(theirs)?;
    for (name, (bytes, mode, owner, _)) in &before {
        let same = theirs
            .get(name)
            .is_some_and(|(b, m, o, _)| (b, m, o) == (bytes, mode, owner));
        ensure!(same, "{name} differs");
    }
    let shared = |path: &Path| {
        fs::metadata(path.join("lib/python3.11/site-packages/fastmcp/server/__init__.py"))
    };
    ensure!(
        all.iter()
            .map(|path| Ok(shared(path)?.ino()))
            .collect::<Result<Vec<_>>>()?
            == vec![shared(ours)?.ino(); 3],
        "the files are copies"
    );
    Ok(())
}

fn a_wheel_with_other_bytes_is_refused() -> Result<()> {
    let platform = tests::platform::shared()?;
    let wrong = "0".repeat(64);
    let repository = Repository::new(&[
        ("main.py", FASTMCP),
        (
            "requirements.txt",
            &format!("fastmcp==4.1.2\nsix==1.16.0 --hash=sha256:{wrong}\n"),
        ),
    ])?;
    let failed = platform.deploy("other-bytes", &repository.url(), &[])?;
    ensure!(
        failed["diagnosis"]["code"] == "dependency_hash_mismatch",
        "{failed}"
    );
    Ok(())
}

/// A project of an organization of its own, to which the owner belongs.
fn project(platform: &Platform, name: &str, organization: &str, source: &Repository) -> Result<()> {
    reqwest::blocking::Client::new()
        .post(format!("{}/api/v1/projects", platform.url()))
        .bearer_auth(platform.token()?)
        .json(&json!({ "name": name, "source_url": source.url() }))
        .send()?
        .error_for_status()?;
    platform.sql(&format!(
        "with made as (insert into organizations values (gen_random_uuid(), '{organization}', now()) returning id), \
         joined as (insert into members select made.id, users.id, 'owner' from made, users) \
         update projects set organization_id = made.id from made where name = '{name}'"
    ))?;
    Ok(())
}

fn environments(platform: &Platform) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(platform.data().join("runner/environments"))? {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    Ok(found)
}

/// Every file below a directory, by its path there.
fn prints(top: &Path) -> Result<BTreeMap<String, Print>> {
    let mut found = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                left.push(path);
            } else if kind.is_file() {
                let about = entry.metadata()?;
                let bytes = fs::read(&path)?;
                let name = path.strip_prefix(top)?.to_string_lossy().into_owned();
                found.insert(name, (bytes, about.mode(), about.uid(), about.mtime()));
            }
        }
    }
    Ok(found)
}
