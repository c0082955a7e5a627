//! What a deployment changes for callers is seen before it reaches them.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::mcp::Caller;
use tests::platform::{self, Platform};
use tests::repository::Repository;

use crate::Test;
use crate::servers::FASTMCP;

pub const TESTS: &[Test] = &[(
    "surface::what_breaks_callers_is_held_until_promoted",
    what_breaks_callers_is_held_until_promoted,
)];

fn get(platform: &Platform, path: &str) -> Result<Value> {
    Ok(reqwest::blocking::Client::new()
        .get(format!("{}/api/v1/projects/gated{path}", platform.url()))
        .bearer_auth(platform.token()?)
        .send()?
        .error_for_status()?
        .json()?)
}

fn what_breaks_callers_is_held_until_promoted() -> Result<()> {
    let platform = platform::shared()?;
    let requirements = ("requirements.txt", "fastmcp==4.1.2\n");
    let repository = Repository::new(&[("main.py", FASTMCP), requirements])?;
    let deploy = |wait: &[&str]| platform.deploy("gated", &repository.url(), wait);
    platform.deploy_live("gated", &repository.url(), &[])?;
    platform
        .berth(&["projects", "set", "gated", "--hold-breaking", "on"])?
        .success()?;

    // A new tool and an optional argument bother nobody.
    let wider = FASTMCP.replace("b: int)", "b: int, c: int = 0)").replace(
        "@mcp.tool\ndef commit",
        "@mcp.tool\ndef ping() -> str:\n    return \"pong\"\n\n@mcp.tool\ndef commit",
    );
    repository.commit(&[("main.py", &wider)])?;
    platform.deploy_live("gated", &repository.url(), &[])?;
    let diff = get(&platform, "/deployments/2/diff")?;
    ensure!(diff["with"] == 1 && diff["breaking"] == false, "{diff}");
    ensure!(codes(&diff) == ["argument_added", "tool_added"], "{diff}");

    // A required argument, and a tool that is gone.
    let narrower = FASTMCP
        .replace("b: int)", "b: int, c: int)")
        .replace("def commit", "def which_commit");
    repository.commit(&[("main.py", &narrower)])?;
    let held = deploy(&[])?;
    ensure!(held["state"] == "held" && held["number"] == 3, "{held}");
    let said = platform.berth(&["diff", "gated", "3"])?.success()?.text();
    ensure!(
        said.contains("breaking")
            && said.contains("tool commit")
            && said.contains("is required now"),
        "{said}"
    );
    let script = platform.berth(&["diff", "gated", "--exit-code"])?;
    ensure!(script.code == 1, "{}", script.text());
    let page = platform.page("/projects/gated/deployments/3")?;
    ensure!(
        page.contains("Held: it would break callers.") && page.contains("Promote anyway"),
        "{page}"
    );
    ensure!(
        platform
            .page("/projects/gated")?
            .contains("Deployment #3 is held.")
    );
    let surface = get(&platform, "/deployments/3/surface")?;
    ensure!(
        surface["surface"]["tools"][0]["inputSchema"].is_object(),
        "{surface}"
    );

    let caller = Caller::new(&platform, "gated")?;
    let served = || -> Result<String> {
        let answer = caller.call("add", &json!({ "a": 1, "b": 2 }))?;
        let header = answer
            .headers()
            .get("berth-deployment")
            .context("no Berth-Deployment")?;
        Ok(header.to_str()?.to_owned())
    };
    let id = |number: i32| -> Result<String> {
        let deployment = get(&platform, &format!("/deployments/{number}"))?;
        Ok(deployment["id"].as_str().context("no id")?.to_owned())
    };
    ensure!(served()? == id(2)?, "nothing is sent to what is held");

    platform
        .berth(&["promote", "gated", "3", "--wait"])?
        .success()?;
    ensure!(served()? == id(3)?, "promoted without a new deployment");
    ensure!(get(&platform, "/deployments/2")?["state"] == "draining");

    // What is held can be taken back, and its instance goes.
    repository.commit(&[("main.py", FASTMCP)])?;
    let held = deploy(&[])?;
    ensure!(held["state"] == "held", "{held}");
    platform.berth(&["cancel", "gated", "4"])?.success()?;
    ensure!(get(&platform, "/deployments/4")?["state"] == "canceled");
    let container = format!("label=berth.deployment={}", id(4)?);
    tests::wait::until(
        "the held instance to be gone",
        std::time::Duration::from_mins(1),
        || {
            let output = std::process::Command::new("docker")
                .args(["ps", "--all", "--quiet", "--filter", &container])
                .output()?;
            Ok(output.stdout.is_empty().then_some(()))
        },
    )?;
    ensure!(served()? == id(3)?);
    Ok(())
}

fn codes(diff: &Value) -> Vec<&str> {
    let changes = diff["changes"].as_array().into_iter().flatten();
    let mut codes: Vec<&str> = changes
        .filter_map(|change| change["code"].as_str())
        .collect();
    codes.sort_unstable();
    codes
}
