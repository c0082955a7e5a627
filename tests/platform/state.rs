//! What servers keep outlives their instances, is as large as it may be, and is nobody else's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::mcp::Caller;
use tests::platform::{Options, Platform};
use tests::repository::Repository;
use tests::wait;

use crate::Test;

pub const TESTS: &[Test] = &[
    (
        "state::files_are_limited_outlive_restarts_and_go_with_their_project",
        files_are_limited_outlive_restarts_and_go_with_their_project,
    ),
    (
        "state::a_redis_keeps_tasks_and_values_for_its_project_alone",
        a_redis_keeps_tasks_and_values_for_its_project_alone,
    ),
];

const FILES: &str = include_str!("../servers/files.py");
const STATE: &str = include_str!("../servers/state.py");

/// Reports come every twenty seconds at the latest.
const REPORTED: Duration = Duration::from_mins(1);
/// A restart of everything, on a busy machine.
const RESTARTED: Duration = Duration::from_mins(2);

/// What a tool says, between its angle brackets.
fn said(caller: &Caller, tool: &str, arguments: &Value) -> Result<String> {
    let answer = caller.call(tool, arguments)?;
    let (status, text) = (answer.status(), answer.text()?);
    let inner = text
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .with_context(|| format!("{status}: {text}"))?;
    Ok(inner.0.to_owned())
}

fn engine(arguments: &[&str]) -> Result<String> {
    let output = Command::new("docker").args(arguments).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn project(platform: &Platform, name: &str) -> Result<Value> {
    platform
        .berth(&["projects", "show", name, "--json"])?
        .success()?
        .json()
}

fn volume<'a>(project: &'a Value, kind: &str) -> Option<&'a Value> {
    let volumes = project["volumes"].as_array()?;
    volumes.iter().find(|volume| volume["kind"] == kind)
}

/// The directories of a project's volumes on the disk.
fn directory(platform: &Platform, project: &Value) -> Result<PathBuf> {
    let id = project["id"].as_str().context("no id")?;
    Ok(platform.data().join("runner/volumes").join(id))
}

fn is_mounted(at: &Path) -> Result<bool> {
    let at = at.to_str().context("an odd path")?;
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    Ok(mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(at)))
}

fn files_are_limited_outlive_restarts_and_go_with_their_project() -> Result<()> {
    let platform = Platform::start(Options {
        settings: vec![
            ("BERTH_DATA_LIMIT_MIB".into(), "64".into()),
            ("BERTH_DRAIN_SECONDS".into(), "5".into()),
        ],
    })?;
    let repository =
        Repository::new(&[("main.py", FILES), ("requirements.txt", "fastmcp==4.1.2\n")])?;
    platform.deploy_live("files", &repository.url(), &[])?;
    platform.deploy_live("neighbour", &repository.url(), &[])?;
    let (caller, neighbour) = (
        Caller::new(&platform, "files")?,
        Caller::new(&platform, "neighbour")?,
    );

    // A full one is full for its own server, and for nobody else.
    let kept = said(&caller, "write", &json!({ "name": "kept", "mebibytes": 2 }))?;
    ensure!(kept == "wrote 2", "{kept}");
    let full = said(
        &caller,
        "write",
        &json!({ "name": "big", "mebibytes": 100 }),
    )?;
    let after: u64 = full
        .strip_prefix("ENOSPC after ")
        .with_context(|| full.clone())?
        .parse()?;
    ensure!((40..64).contains(&after), "{full}");
    let other = said(
        &neighbour,
        "write",
        &json!({ "name": "small", "mebibytes": 10 }),
    )?;
    ensure!(other == "wrote 10", "{other}");

    // It is shown.
    wait::until("the use to be reported", REPORTED, || {
        let shown = project(&platform, "files")?;
        let data = volume(&shown, "data").context("no volume")?;
        let (used, size) = (data["used_bytes"].as_i64(), data["size_bytes"].as_i64());
        ensure!(data["watched"].is_null(), "{data}");
        Ok((used.is_some() && used >= size.map(|size| size / 10 * 9)).then_some(()))
    })?;
    let page = platform.page("/projects/files")?;
    ensure!(
        page.contains("<dt>/data</dt>") && page.contains(" MiB of "),
        "{page}"
    );
    let text = platform.berth(&["projects", "show", "files"])?.text();
    ensure!(
        text.contains("/data") && text.contains(" MiB of "),
        "{text}"
    );

    // What is deleted is given back to the disk, and what is not outlives a deployment.
    let image = directory(&platform, &project(&platform, "files")?)?.with_extension("img");
    said(&caller, "remove", &json!({ "name": "big" }))?;
    wait::until("the space to be given back", REPORTED, || {
        use std::os::unix::fs::MetadataExt as _;
        let blocks = std::fs::metadata(&image)?.blocks() * 512;
        Ok((blocks < 30 << 20).then_some(()))
    })?;
    repository.commit(&[("main.py", &FILES.replace("Writes a file", "Writes one"))])?;
    platform.deploy_live("files", &repository.url(), &[])?;
    let there = said(&caller, "sizes", &json!({}))?;
    ensure!(there == "kept=2", "{there}");

    // So does a restart of the machine: nothing runs and nothing is mounted.
    platform.kill()?;
    for container in platform.containers()? {
        engine(&["rm", "--force", "--volumes", &container])?;
    }
    let at = directory_of(&image);
    ensure!(is_mounted(&at)?, "it was mounted");
    let unmounted = Command::new("umount").arg("--").arg(&at).output()?;
    ensure!(unmounted.status.success(), "{unmounted:?}");
    platform.launch()?;
    platform.wait_ready()?;
    wait::until("the server to be back with its files", RESTARTED, || {
        Ok((said(&caller, "sizes", &json!({}))? == "kept=2").then_some(()))
    })?;
    ensure!(is_mounted(&at)?, "it is mounted again");

    // And it goes with its project, alone.
    platform
        .berth(&["projects", "delete", "files"])?
        .success()?;
    wait::until("the files to be gone", RESTARTED, || {
        Ok((!image.exists() && !at.exists() && !is_mounted(&at)?).then_some(()))
    })?;
    let there = said(&neighbour, "sizes", &json!({}))?;
    ensure!(there == "small=10", "{there}");
    Ok(())
}

fn directory_of(image: &Path) -> PathBuf {
    image.with_extension("")
}

/// Starts a task; returns its id.
fn start_task(caller: &Caller, tool: &str, arguments: &Value) -> Result<String> {
    let params = json!({ "name": tool, "arguments": arguments });
    let answer: Value = sse_or_json(&caller.ask("tools/call", tool, params, &tasks())?.text()?)?;
    let id = answer["result"]["taskId"].as_str();
    Ok(id.with_context(|| answer.to_string())?.to_owned())
}

fn task(caller: &Caller, id: &str) -> Result<Value> {
    let params = json!({ "taskId": id });
    let answer = caller.ask("tasks/get", id, params, &tasks())?.text()?;
    Ok(sse_or_json(&answer)?["result"].take())
}

fn tasks() -> Value {
    json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } })
}

fn sse_or_json(text: &str) -> Result<Value> {
    let data = text
        .lines()
        .find_map(|line| line.strip_prefix("data: "))
        .unwrap_or(text);
    serde_json::from_str(data).with_context(|| text.to_owned())
}

/// The running containers of one role of the project with the Redis, by id.
fn of_role(platform: &Platform, role: &str) -> Result<BTreeSet<String>> {
    let id = platform.sql("select id from projects where name = 'state'")?;
    let project = format!("label=berth.project={}", id.trim());
    let role = format!("label=berth.role={role}");
    let mut arguments = vec!["ps", "--quiet", "--no-trunc"];
    arguments.extend(["--filter", &project, "--filter", &role]);
    let ids = engine(&arguments)?;
    Ok(ids.lines().map(str::to_owned).collect())
}

fn a_redis_keeps_tasks_and_values_for_its_project_alone() -> Result<()> {
    let platform = Platform::start(Options {
        settings: vec![("BERTH_DRAIN_SECONDS".into(), "5".into())],
    })?;
    let repository = Repository::new(&[
        ("main.py", STATE),
        (
            "requirements.txt",
            "fastmcp[tasks]==4.1.2\npy-key-value-aio[disk,redis]\ncryptography\n",
        ),
    ])?;
    reqwest::blocking::Client::new()
        .post(format!("{}/api/v1/projects", platform.url()))
        .bearer_auth(platform.token()?)
        .json(&json!({ "name": "state", "source_url": repository.url() }))
        .send()?
        .error_for_status()?;
    keys_are_generated_once(&platform)?;
    platform
        .berth(&["projects", "set", "state", "--redis", "on"])?
        .success()?;
    let first = platform.deploy_live("state", &repository.url(), &[])?;
    let caller = Caller::new(&platform, "state")?;
    said(&caller, "keep", &json!({ "name": "a", "value": "one" }))?;
    let id = start_task(&caller, "wait_for", &json!({ "name": "gate" }))?;
    ensure!(task(&caller, &id)?["status"] == "working");
    it_is_nobody_elses(&platform, &caller)?;

    // Everything ends at once, and nothing gets to say goodbye.
    let redis = of_role(&platform, "redis")?;
    ensure!(redis.len() == 1, "{redis:?}");
    platform.kill()?;
    for container in platform.containers()? {
        engine(&["kill", "--signal", "KILL", &container])?;
    }
    platform.launch()?;
    platform.wait_ready()?;
    wait::until("the server to be back with its values", RESTARTED, || {
        let found = said(&caller, "kept", &json!({ "name": "a" }))?;
        Ok((found == "disk=one redis=one").then_some(()))
    })?;
    ensure!(task(&caller, &id)?["status"] == "working");

    // A deployment takes the task over.
    let old = of_role(&platform, "instance")?;
    repository.commit(&[("main.py", &STATE.replace("Puts a value", "Puts one"))])?;
    let second = platform.deploy_live("state", &repository.url(), &[])?;
    ensure!(second["deployment"] != first["deployment"]);
    wait::until("the old instance to be gone", RESTARTED, || {
        Ok(old
            .is_disjoint(&of_role(&platform, "instance")?)
            .then_some(()))
    })?;
    let found = said(&caller, "kept", &json!({ "name": "a" }))?;
    ensure!(found == "disk=one redis=one", "{found}");
    said(&caller, "keep", &json!({ "name": "gate", "value": "open" }))?;
    let done = wait::until("the task to end", RESTARTED, || {
        let task = task(&caller, &id)?;
        Ok((task["status"] != "working").then_some(task))
    })?;
    ensure!(
        done["status"] == "completed" && done.to_string().contains("<ended in "),
        "{done}"
    );

    // It is shown, and it can be given back.
    wait::until("its use to be reported", REPORTED, || {
        let shown = project(&platform, "state")?;
        let redis = volume(&shown, "redis").context("no volume")?;
        Ok(redis["used_bytes"].as_i64())
    })?;
    ensure!(platform.page("/projects/state")?.contains("<dt>Redis</dt>"));
    platform
        .berth(&["projects", "set", "state", "--redis", "off"])?
        .success()?;
    // The server cannot do without, so the restart fails and the old one goes on with its Redis.
    wait::until("the restart to have failed", RESTARTED, || {
        let listed = platform
            .berth(&["deployments", "state", "--json"])?
            .json()?;
        Ok((listed[0]["state"] == "failed").then_some(()))
    })?;
    let found = said(&caller, "kept", &json!({ "name": "a" }))?;
    ensure!(found == "disk=one redis=one", "{found}");
    let redis = of_role(&platform, "redis")?;
    ensure!(redis.len() == 1, "{redis:?}");
    platform
        .berth(&["projects", "delete", "state"])?
        .success()?;
    wait::until("the Redis to be gone with its data", RESTARTED, || {
        let all: BTreeSet<String> = platform.containers()?.into_iter().collect();
        let left = std::fs::read_dir(platform.data().join("runner/volumes"))?;
        let left: Vec<String> = left
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<_>>()?;
        let has_data = left.iter().any(|name| name.contains("-redis"));
        Ok((redis.is_disjoint(&all) && !has_data).then_some(()))
    })
}

fn keys_are_generated_once(platform: &Platform) -> Result<()> {
    let made = platform.berth(&["env", "state", "generate"])?.success()?;
    ensure!(
        made.text()
            .contains("Generated STORAGE_ENCRYPTION_KEY, JWT_SIGNING_KEY"),
        "{made:?}"
    );
    let stored = "select string_agg(value, ' ' order by name) from variables";
    let before = platform.sql(stored)?;
    let again = platform.berth(&["env", "state", "generate", "JWT_SIGNING_KEY"])?;
    ensure!(
        again.code == 1 && again.text().contains("JWT_SIGNING_KEY is set already"),
        "{again:?}"
    );
    ensure!(platform.sql(stored)? == before, "nothing was changed");
    platform
        .berth(&["env", "state", "generate", "JWT_SIGNING_KEY", "--replace"])?
        .success()?;
    ensure!(platform.sql(stored)? != before, "it was replaced");
    let listed = platform.berth(&["env", "state", "list"])?.text();
    ensure!(
        listed.contains("STORAGE_ENCRYPTION_KEY") && listed.contains("(secret)"),
        "{listed}"
    );
    let page = platform.page("/projects/state/variables")?;
    ensure!(page.contains("Generate anew"), "{page}");
    Ok(())
}

fn it_is_nobody_elses(platform: &Platform, caller: &Caller) -> Result<()> {
    let asked = |question: &str| said(caller, "ask_redis", &json!({ "question": question }));
    let stranger = asked("PING")?;
    ensure!(stranger.starts_with("-NOAUTH"), "{stranger}");
    let spy = asked("AUTH PASSWORD\r\nCONFIG GET maxmemory")?;
    ensure!(spy.contains("-NOPERM"), "{spy}");

    let redis = of_role(platform, "redis")?;
    let redis = redis.first().context("no Redis")?;
    let confined = engine(&[
        "inspect",
        "--format",
        "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.Config.User}} {{.HostConfig.Memory}}",
        redis,
    ])?;
    ensure!(confined == "true [ALL] 10001:10001 201326592", "{confined}");
    let address = engine(&[
        "inspect",
        "--format",
        "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
        redis,
    ])?;
    let repository =
        Repository::new(&[("main.py", FILES), ("requirements.txt", "fastmcp==4.1.2\n")])?;
    platform.deploy_live("other", &repository.url(), &[])?;
    let other = Caller::new(platform, "other")?;
    for host in [address.as_str(), "redis"] {
        let reached = said(&other, "reach", &json!({ "host": host, "port": 6379 }))?;
        ensure!(reached.starts_with("no: "), "{host}: {reached}");
    }
    Ok(())
}
