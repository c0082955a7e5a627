//! More than Python objects: TypeScript over HTTP, stdio through the bridge, packages of registries.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tests::platform::{self, Platform};
use tests::repository::Repository;
use tests::{mcp, python};

use crate::Test;
use crate::servers::list_and_call;

pub const TESTS: &[Test] = &[
    ("node::typescript_over_http", typescript_over_http),
    ("node::javascript_over_stdio", javascript_over_stdio),
    (
        "node::a_server_that_listens_elsewhere",
        a_server_that_listens_elsewhere,
    ),
    ("node::a_package_of_npm", a_package_of_npm),
    ("node::a_package_of_pypi", a_package_of_pypi),
    (
        "node::what_cannot_be_built_says_why",
        what_cannot_be_built_says_why,
    ),
];

/// More packages, with downloads of their own.
pub const LONG: &[Test] = &[
    ("node::a_package_that_calls_git", a_package_that_calls_git),
    ("node::a_package_that_fetches", a_package_that_fetches),
];

const TYPESCRIPT: &str = r#"{
  "name": "typescript-server", "version": "1.0.0", "type": "module",
  "engines": { "node": ">=20" },
  "scripts": { "build": "tsc", "start": "node dist/index.js" },
  "dependencies": { "@modelcontextprotocol/sdk": "1.30.0", "express": "^5.1.0", "zod": "^3.25.0" },
  "devDependencies": { "typescript": "^5.9.0", "@types/node": "^22.0.0", "@types/express": "^5.0.0" }
}"#;

const COMPILER: &str = r#"{
  "compilerOptions": { "target": "ES2022", "module": "Node16", "moduleResolution": "Node16",
    "outDir": "dist", "rootDir": ".", "strict": true, "skipLibCheck": true },
  "include": ["index.ts"]
}"#;

const STDIO: &str = r#"{
  "name": "stdio-server", "version": "1.0.0", "type": "module", "bin": "server.mjs",
  "dependencies": { "@modelcontextprotocol/sdk": "1.30.0", "zod": "^3.25.0" }
}"#;

fn stages(deployment: &Value) -> Vec<String> {
    let timings = deployment["timings"].as_array().into_iter().flatten();
    timings
        .filter_map(|timing| timing["stage"].as_str().map(str::to_owned))
        .collect()
}

/// Its SDK refuses the public host, so this also proves that it is told another one.
fn typescript_over_http() -> Result<()> {
    let platform = platform::shared()?;
    let repository = Repository::new(&[
        ("index.ts", include_str!("../servers/typescript/index.ts")),
        ("package.json", TYPESCRIPT),
        ("tsconfig.json", COMPILER),
    ])?;
    platform.deploy_live("typescript", &repository.url(), &[])?;
    let answer = list_and_call(&platform, "typescript", "add", r#"{"a":20,"b":22}"#)?;
    ensure!(answer["text"] == json!(["42"]), "{answer}");
    let first = platform.newest("typescript")?;
    let reasons = first["plan"]["reasons"].to_string();
    ensure!(first["plan"]["runtime"] == "node:22", "{first}");
    ensure!(reasons.contains("a start script"), "{reasons}");
    ensure!(
        reasons.contains("refuses its public host name"),
        "{reasons}"
    );
    ensure!(stages(&first).contains(&"install".to_owned()), "{first}");
    // Another version of the code is built with the packages that are there.
    let code = include_str!("../servers/typescript/index.ts").replace("a + b", "a * b");
    repository.commit(&[("index.ts", &code)])?;
    platform.deploy_live("typescript", &repository.url(), &[])?;
    let answer = list_and_call(&platform, "typescript", "add", r#"{"a":6,"b":7}"#)?;
    ensure!(answer["text"] == json!(["42"]), "{answer}");
    let second = platform.newest("typescript")?;
    let stages = stages(&second);
    ensure!(stages.contains(&"compile".to_owned()), "{second}");
    ensure!(!stages.contains(&"install".to_owned()), "{second}");
    Ok(())
}

fn javascript_over_stdio() -> Result<()> {
    let platform = platform::shared()?;
    let repository = Repository::new(&[
        ("server.mjs", include_str!("../servers/stdio/server.mjs")),
        ("package.json", STDIO),
    ])?;
    platform.deploy_live("stdio", &repository.url(), &[])?;
    platform
        .berth(&["env", "stdio", "set", "KEY=hunter2"])?
        .success()?;
    platform.deploy_live("stdio", &repository.url(), &[])?;
    let caller = mcp::Caller::new(&platform, "stdio")?;
    let python = python::environment("client-fastmcp-3", &["fastmcp==3.4.10"])?;
    let output = Command::new(python)
        .arg(python::client("python/stdio_bridge.py"))
        .arg(platform.mcp_url("stdio"))
        .env("TEST_ACCESS_TOKEN", caller.token())
        .output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    let mut saw: Value = serde_json::from_str(text.lines().last().context("no output")?)?;
    let end = saw["end"].take();
    let expected = json!({
        "progress": [[1.0, 3.0], [2.0, 3.0], [3.0, 3.0]],
        "sum": "42", "same": true, "apart": true, "counted": "3", "asked": "Ada",
        "secret": "hunter2", "hidden": "absent", "canceled": true, "end": null, "other": "2",
    });
    ensure!(saw == expected, "{saw}");
    let end = end.as_str().unwrap_or_default();
    ensure!(end.contains("The server ended with status 7"), "{end:?}");
    let log = platform.berth(&["logs", "stdio"])?.success()?.stdout;
    ensure!(log.contains("a line that is no message"), "{log}");
    Ok(())
}

/// On the loopback address and a port of its own: connections are passed on.
fn a_server_that_listens_elsewhere() -> Result<()> {
    let platform = platform::shared()?;
    let code = include_str!("../servers/typescript/index.ts").replace(
        "Number(process.env.PORT), \"0.0.0.0\"",
        "3000, \"127.0.0.1\"",
    );
    ensure!(code.contains("3000"), "the fixture has changed");
    let repository = Repository::new(&[
        ("index.ts", &code),
        ("package.json", TYPESCRIPT),
        ("tsconfig.json", COMPILER),
    ])?;
    platform.deploy_live("elsewhere", &repository.url(), &[])?;
    let answer = list_and_call(&platform, "elsewhere", "add", r#"{"a":1,"b":2}"#)?;
    ensure!(answer["text"] == json!(["3"]), "{answer}");
    Ok(())
}

/// Deploys a package without a repository; answers the last line of `berth deploy`.
fn deploy_package(platform: &Platform, package: &str, more: &[&str]) -> Result<Value> {
    let mut arguments = vec!["deploy", "--catalogue", package, "--wait", "--json"];
    arguments.extend_from_slice(more);
    let done = platform.berth(&arguments)?.success()?.json()?;
    ensure!(done["state"] == "live", "{done}");
    Ok(done)
}

fn a_package_of_npm() -> Result<()> {
    let platform = platform::shared()?;
    let package = "npm:@modelcontextprotocol/server-everything";
    let done = deploy_package(&platform, package, &["--project", "everything-npm"])?;
    let version = done["commit"].as_str().context("no commit")?.to_owned();
    ensure!(version.starts_with(|c: char| c.is_ascii_digit()), "{done}");
    let answer = list_and_call(
        &platform,
        "everything-npm",
        "echo",
        r#"{"message":"hello"}"#,
    )?;
    ensure!(answer["text"].to_string().contains("hello"), "{answer}");
    Ok(())
}

fn a_package_of_pypi() -> Result<()> {
    let platform = platform::shared()?;
    let planned = platform
        .berth(&["plan", "--catalogue", "pypi:mcp-server-time", "--json"])?
        .success()?
        .json()?;
    ensure!(planned["plan"]["runtime"] == "node:22", "{planned}");
    // Its name is the project's where none is given.
    let done = deploy_package(&platform, "pypi:mcp-server-time", &[])?;
    ensure!(done["project"] == "mcp-server-time", "{done}");
    let version = done["commit"].as_str().context("no commit")?.to_owned();
    let call = |arguments: &str| {
        list_and_call(&platform, "mcp-server-time", "get_current_time", arguments)
    };
    let answer = call(r#"{"timezone":"Europe/Oslo"}"#)?;
    ensure!(
        answer["text"].to_string().contains("Europe/Oslo"),
        "{answer}"
    );
    // The version can be pinned, and its program given arguments.
    let pinned = format!("pypi:mcp-server-time=={version}");
    let entrypoint = "mcp-server-time --local-timezone Asia/Tokyo";
    let done = deploy_package(&platform, &pinned, &["--entrypoint", entrypoint])?;
    ensure!(done["commit"] == version, "{done}");
    let tools = platform
        .berth(&["tools", "mcp-server-time", "--json"])?
        .success()?
        .json()?;
    ensure!(tools.to_string().contains("Asia/Tokyo"), "{tools}");
    // And an earlier deployment comes back in the version it had.
    let back = platform
        .berth(&["rollback", "mcp-server-time", "--wait", "--json"])?
        .success()?
        .json()?;
    ensure!(back["commit"] == version, "{back}");
    Ok(())
}

fn what_cannot_be_built_says_why() -> Result<()> {
    let platform = platform::shared()?;
    let failed = |arguments: &[&str]| -> Result<Value> {
        let mut all = vec!["deploy", "--wait", "--json"];
        all.extend_from_slice(arguments);
        let output = platform.berth(&all)?;
        ensure!(output.code == 1, "{output:?}");
        output.json()
    };
    let gone = failed(&[
        "--catalogue",
        "npm:no-such-server-of-berth",
        "--project",
        "gone-npm",
    ])?;
    ensure!(
        gone["diagnosis"]["code"] == "dependency_not_found",
        "{gone}"
    );
    let gone = failed(&[
        "--catalogue",
        "pypi:no-such-server-of-berth",
        "--project",
        "gone-pypi",
    ])?;
    ensure!(
        gone["diagnosis"]["code"] == "dependency_not_found",
        "{gone}"
    );
    let library = failed(&["--catalogue", "npm:left-pad@1.3.0", "--project", "library"])?;
    ensure!(
        library["diagnosis"]["cause"]
            .to_string()
            .contains("no program to run"),
        "{library}"
    );
    for (project, manifest, code) in [
        (
            "broken-build",
            r#"{"main":"x.js","scripts":{"build":"exit 3"}}"#,
            "build_script_failed",
        ),
        (
            "old-lock",
            r#"{"main":"x.js","dependencies":{"left-pad":"1.3.0"}}"#,
            "lock_outdated",
        ),
        (
            "engines",
            r#"{"main":"x.js","engines":{"node":">=99"}}"#,
            "node_version_unavailable",
        ),
        ("no-object", "[]", "configuration_invalid"),
    ] {
        let lock = r#"{"name":"x","lockfileVersion":3,"requires":true,"packages":{"":{}}}"#;
        let repository = Repository::new(&[
            ("package.json", manifest),
            ("package-lock.json", lock),
            ("x.js", "setInterval(() => {}, 1000);\n"),
        ])?;
        let done = failed(&["--git", &repository.url(), "--project", project])?;
        ensure!(done["diagnosis"]["code"] == code, "{project}: {done}");
    }
    Ok(())
}

fn a_package_that_calls_git() -> Result<()> {
    let platform = platform::shared()?;
    deploy_package(&platform, "pypi:mcp-server-git", &[])?;
    // There is no repository in the instance; Git says so, through GitPython.
    let answer = list_and_call(
        &platform,
        "mcp-server-git",
        "git_status",
        r#"{"repo_path":"/data"}"#,
    )?;
    ensure!(answer["tools"].to_string().contains("git_log"), "{answer}");
    ensure!(
        answer["is_error"] == true && answer["text"].to_string().contains("/data"),
        "{answer}"
    );
    Ok(())
}

/// What it fetches is its own page: an instance reaches itself whatever else it may reach.
fn a_package_that_fetches() -> Result<()> {
    let platform = platform::shared()?;
    let entrypoint = "mcp-server-fetch --ignore-robots-txt --allow-private-ips";
    deploy_package(
        &platform,
        "pypi:mcp-server-fetch",
        &["--entrypoint", entrypoint],
    )?;
    let url = r#"{"url":"http://127.0.0.1:8080/mcp","raw":true}"#;
    let answer = list_and_call(&platform, "mcp-server-fetch", "fetch", url)?;
    ensure!(answer["tools"] == json!(["fetch"]), "{answer}");
    // The bridge asks for a session, so the fetch failed with its status: it came through.
    ensure!(answer["text"].to_string().contains("404"), "{answer}");
    Ok(())
}
