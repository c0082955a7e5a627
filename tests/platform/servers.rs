//! Real servers deploy from Git repositories and answer.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tests::repository::Repository;
use tests::{mcp, platform, python, sdist};

use crate::Test;

pub const TESTS: &[Test] = &[
    (
        "servers::examples_of_the_official_sdk_1",
        examples_of_the_official_sdk_1,
    ),
    ("servers::fastmcp_2_14", || {
        one_fastmcp("fastmcp-2", "2.14.7")
    }),
    ("servers::fastmcp_3_4", || {
        one_fastmcp("fastmcp-3", "3.4.10")
    }),
    ("servers::fastmcp_4_1", || one_fastmcp("fastmcp-4", "4.1.2")),
    (
        "servers::mcpserver_of_the_official_sdk_2",
        mcpserver_of_the_official_sdk_2,
    ),
    ("servers::an_upload_deploys", an_upload_deploys),
];

/// A small FastMCP server that every version from 2 to 4 runs.
pub const FASTMCP: &str = r#"
import os
from fastmcp import FastMCP

mcp = FastMCP("tests")

@mcp.tool
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b

@mcp.tool
def commit() -> str:
    """Which commit this is."""
    return os.environ["BERTH_COMMIT"]

if __name__ == "__main__":
    mcp.run()
"#;

/// File in the source distribution's `examples/`, tool, arguments, what the answer holds.
const EXAMPLES: &[(&str, &str, &str, &str)] = &[
    ("fastmcp/echo.py", "echo_tool", r#"{"text":"hi"}"#, "hi"),
    (
        "fastmcp/simple_echo.py",
        "echo",
        r#"{"text":"hello"}"#,
        "hello",
    ),
    (
        "fastmcp/readme-quickstart.py",
        "sum",
        r#"{"a":2,"b":3}"#,
        "5",
    ),
    (
        "fastmcp/complex_inputs.py",
        "name_shrimp",
        r#"{"tank":{"shrimp":[{"name":"bob"}]},"extra_names":["al"]}"#,
        "bob",
    ),
    (
        "fastmcp/parameter_descriptions.py",
        "greet_user",
        r#"{"name":"Ada"}"#,
        "Ada",
    ),
    (
        "fastmcp/unicode_example.py",
        "list_emoji_categories",
        "{}",
        "",
    ),
    (
        "fastmcp/weather_structured.py",
        "get_weather",
        r#"{"city":"Oslo"}"#,
        "",
    ),
    (
        "snippets/servers/basic_tool.py",
        "sum",
        r#"{"a":4,"b":5}"#,
        "9",
    ),
    (
        "snippets/servers/structured_output.py",
        "get_weather",
        r#"{"city":"Rome"}"#,
        "",
    ),
    (
        "snippets/servers/tool_progress.py",
        "long_running_task",
        r#"{"task_name":"x","steps":2}"#,
        "x",
    ),
];

/// Lists and calls through the public URL with the real client.
pub fn list_and_call(
    platform: &platform::Platform,
    project: &str,
    tool: &str,
    arguments: &str,
) -> Result<Value> {
    let caller = mcp::Caller::new(platform, project)?;
    let python = python::environment("client-fastmcp-4", &["fastmcp==4.1.2"])?;
    let output = Command::new(python)
        .arg(python::client("list_and_call.py"))
        .args([&platform.mcp_url(project), tool, arguments])
        .env("TEST_ACCESS_TOKEN", caller.token())
        .output()?;
    if !output.status.success() {
        bail!("{project}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let last = String::from_utf8(output.stdout)?;
    Ok(serde_json::from_str(
        last.lines().last().context("no output")?,
    )?)
}

fn examples_of_the_official_sdk_1() -> Result<()> {
    let platform = platform::shared()?;
    let files = sdist::examples("1.30.0")?;
    for (file, tool, arguments, expected) in EXAMPLES {
        let code = files
            .get(*file)
            .with_context(|| format!("{file} is not in the source distribution"))?;
        let repository =
            Repository::new(&[("server.py", code), ("requirements.txt", "mcp==1.30.0\n")])?;
        let name = file
            .rsplit('/')
            .next()
            .unwrap_or(file)
            .trim_end_matches(".py")
            .replace('_', "-");
        let project = format!(
            "{}-{name}",
            if file.starts_with("snippets") {
                "snippet"
            } else {
                "example"
            }
        );
        platform.deploy_live(&project, &repository.url(), &[])?;
        let answer = list_and_call(&platform, &project, tool, arguments).context(*file)?;
        ensure!(
            answer["tools"]
                .as_array()
                .is_some_and(|tools| tools.contains(&json!(tool))),
            "{file}: {answer}"
        );
        ensure!(answer["is_error"] == false, "{file}: {answer}");
        ensure!(
            answer["text"].to_string().contains(expected),
            "{file}: {answer}"
        );
    }
    Ok(())
}

fn one_fastmcp(project: &str, version: &str) -> Result<()> {
    let platform = platform::shared()?;
    let requirements = format!("fastmcp=={version}\n");
    let repository = Repository::new(&[("main.py", FASTMCP), ("requirements.txt", &requirements)])?;
    let done = platform.deploy_live(project, &repository.url(), &[])?;
    let answer = list_and_call(&platform, project, "add", r#"{"a":20,"b":22}"#)?;
    ensure!(answer["text"] == json!(["42"]), "{answer}");
    let commit = list_and_call(&platform, project, "commit", "{}")?;
    ensure!(
        commit["text"] == json!([done["commit"]]),
        "{commit} is not {done}"
    );
    // The command line sees and calls the same.
    let tools = platform
        .berth(&["tools", project, "--json"])?
        .success()?
        .json()?;
    ensure!(tools.to_string().contains("\"add\""), "{tools}");
    let called = platform
        .berth(&["call", project, "add", r#"{"a":1,"b":2}"#, "--json"])?
        .success()?
        .json()?;
    ensure!(called["content"][0]["text"] == "3", "{called}");
    Ok(())
}

fn mcpserver_of_the_official_sdk_2() -> Result<()> {
    let code = r#"
from mcp.server.mcpserver import MCPServer

mcp = MCPServer("two")

@mcp.tool()
def shout(text: str) -> str:
    """Louder."""
    return text.upper()
"#;
    let platform = platform::shared()?;
    let repository = Repository::new(&[("server.py", code), ("requirements.txt", "mcp==2.3.0\n")])?;
    platform.deploy_live("sdk-2", &repository.url(), &[])?;
    let answer = list_and_call(&platform, "sdk-2", "shout", r#"{"text":"hey"}"#)?;
    ensure!(answer["text"] == json!(["HEY"]), "{answer}");
    Ok(())
}

fn an_upload_deploys() -> Result<()> {
    let platform = platform::shared()?;
    let directory = tempfile::TempDir::new()?;
    std::fs::write(directory.path().join("main.py"), FASTMCP)?;
    std::fs::write(
        directory.path().join("requirements.txt"),
        "fastmcp==4.1.2\n",
    )?;
    std::fs::write(directory.path().join(".gitignore"), "private.txt\n")?;
    std::fs::write(directory.path().join("private.txt"), "not to be sent")?;
    let path = directory.path().to_string_lossy().into_owned();
    let done = platform
        .berth(&["deploy", &path, "--project", "uploaded", "--wait", "--json"])?
        .success()?
        .json()?;
    ensure!(done["state"] == "live", "{done}");
    ensure!(
        done["commit"]
            .as_str()
            .is_some_and(|commit| commit.len() == 64),
        "{done}"
    );
    let answer = list_and_call(&platform, "uploaded", "add", r#"{"a":1,"b":1}"#)?;
    ensure!(answer["text"] == json!(["2"]), "{answer}");
    Ok(())
}
