//! The two commands of deploy/: up, up again, down.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::Test;

pub const TESTS: &[Test] = &[("deploy::up_and_down", up_and_down)];

struct Place {
    data: tempfile::TempDir,
    port: u16,
    home: tempfile::TempDir,
}

impl Place {
    fn run(&self, script: &str, arguments: &[&str]) -> Result<Output> {
        let output = Command::new(tests::root().join("deploy").join(script))
            .args(arguments)
            .arg("--data")
            .arg(self.data.path())
            .env("BERTH_BUILD_PROFILE", "dev")
            // The person's own sign-ins are not this test's.
            .env("XDG_CONFIG_HOME", self.home.path())
            .output()?;
        Ok(output)
    }

    fn up(&self) -> Result<String> {
        let output = self.run("up", &["--detach", "--port", &self.port.to_string()])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }
}

/// The block of the end, which scripts and people look for.
fn block(text: &str) -> String {
    text.lines()
        .skip_while(|line| *line != "Berth is up.")
        .collect::<Vec<_>>()
        .join("\n")
}

fn engine_has(installation: &str) -> Result<String> {
    let label = format!("label=berth.installation={installation}");
    let mut left = Vec::new();
    for arguments in [
        &["ps", "--all", "--quiet"][..],
        &["network", "ls", "--quiet"][..],
    ] {
        let output = Command::new("docker")
            .args(arguments)
            .args(["--filter", &label])
            .output()?;
        left.extend(output.stdout);
    }
    Ok(String::from_utf8_lossy(&left).trim().to_owned())
}

/// Processes that name the data directory: berth, its Postgres.
fn processes(data: &Path) -> Result<String> {
    let output = Command::new("pgrep")
        .args(["--full", "--list-full", "--"])
        .arg(data)
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn up_and_down() -> Result<()> {
    let place = Place {
        data: tempfile::TempDir::new()?,
        port: TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
        home: tempfile::TempDir::new()?,
    };
    // The database's user must be able to enter.
    std::fs::set_permissions(
        place.data.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )?;
    let first = place.up();
    let checked = first.and_then(|text| check(&place, &text));
    let down = place.run("down", &[])?;
    checked?;
    ensure!(
        down.status.success(),
        "{}",
        String::from_utf8_lossy(&down.stderr)
    );
    let left = processes(place.data.path())?;
    ensure!(left.is_empty(), "down leaves processes: {left}");
    let installation = std::fs::read_to_string(place.data.path().join("runner/installation"))?;
    let left = engine_has(installation.trim())?;
    ensure!(left.is_empty(), "down leaves on the engine: {left}");
    ensure!(place.run("down", &[])?.status.success(), "down again");
    Ok(())
}

fn check(place: &Place, text: &str) -> Result<()> {
    let port = place.port;
    let shown = block(text);
    let lines: Vec<&str> = shown.lines().collect();
    ensure!(lines.len() == 4, "the block: {text}");
    ensure!(
        lines[1].starts_with(&format!("  Dashboard   http://localhost:{port} ")),
        "{shown}"
    );
    ensure!(lines[1].contains("owner@localhost"), "{shown}");
    ensure!(
        lines[1].contains(&format!(
            "(one-time sign-in: http://localhost:{port}/setup/"
        )),
        "{shown}"
    );
    ensure!(
        lines[2] == format!("  Example     http://hello.localhost:{port}/mcp"),
        "{shown}"
    );
    ensure!(
        lines[3].ends_with(r#"call hello greet '{"name":"you"}'"#),
        "{shown}"
    );
    let call = Command::new(tests::berth_binary())
        .args(["call", "hello", "greet", r#"{"name":"you"}"#])
        .env("XDG_CONFIG_HOME", place.home.path())
        .output()?;
    ensure!(
        call.status.success(),
        "{}",
        String::from_utf8_lossy(&call.stderr)
    );
    ensure!(
        String::from_utf8_lossy(&call.stdout).contains("Hello, you!"),
        "{call:?}"
    );
    let before = processes(place.data.path())?;
    // Which there are and how they stand; what is still being learned of one may come later.
    let deployments = |name: &str| -> Result<Vec<[Value; 2]>> {
        let output = Command::new(tests::berth_binary())
            .args(["deployments", name, "--json"])
            .env("XDG_CONFIG_HOME", place.home.path())
            .output()?;
        let known: Vec<Value> = serde_json::from_slice(&output.stdout)?;
        Ok(known
            .iter()
            .map(|deployment| ["id", "state"].map(|field| deployment[field].clone()))
            .collect())
    };
    let live = deployments("hello")?;
    ensure!(live.len() == 1, "{live:?}");
    place.up()?;
    ensure!(
        processes(place.data.path())? == before,
        "up again starts or stops nothing"
    );
    ensure!(deployments("hello")? == live, "up again deploys nothing");
    Ok(())
}
