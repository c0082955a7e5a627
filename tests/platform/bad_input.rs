//! Bad input ends in one clear sentence with the next step, and the log is kept.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::platform::{Options, Platform};
use tests::repository::Repository;

use crate::Test;
use crate::servers::FASTMCP;

pub const TESTS: &[Test] = &[
    ("bad_input::missing_repository", missing_repository),
    ("bad_input::unreachable_repository", unreachable_repository),
    ("bad_input::private_address", private_address),
    ("bad_input::unknown_ref", unknown_ref),
    ("bad_input::no_entrypoint", no_entrypoint),
    (
        "bad_input::entrypoint_that_is_not_there",
        entrypoint_that_is_not_there,
    ),
    ("bad_input::no_server_object", no_server_object),
    ("bad_input::wrong_object_name", wrong_object_name),
    ("bad_input::import_error", import_error),
    ("bad_input::syntax_error", syntax_error),
    (
        "bad_input::dependencies_that_do_not_resolve",
        dependencies_that_do_not_resolve,
    ),
    ("bad_input::missing_variable", missing_variable),
    ("bad_input::port_never_opens", port_never_opens),
    ("bad_input::project_names", project_names),
    ("bad_input::oversize_upload", oversize_upload),
    ("bad_input::corrupt_archive", corrupt_archive),
    (
        "bad_input::a_failure_leaves_the_live_one_alone",
        a_failure_leaves_the_live_one_alone,
    ),
];

static PLATFORM: Mutex<Option<Arc<Platform>>> = Mutex::new(None);

/// One platform with small limits, for these tests alone.
fn platform() -> Result<Arc<Platform>> {
    let mut platform = PLATFORM.lock().unwrap_or_else(PoisonError::into_inner);
    if platform.is_none() {
        let settings = vec![
            ("BERTH_START_TIMEOUT_SECONDS".into(), "12".into()),
            ("BERTH_UPLOAD_LIMIT_MIB".into(), "1".into()),
        ];
        *platform = Some(Arc::new(Platform::start(Options { settings })?));
    }
    Ok(platform.clone().expect("it was just made"))
}

/// Stops the platform of these tests; called when the last test has ended.
pub fn stop() {
    PLATFORM
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
}

/// What a failed deployment must say.
struct Expected {
    code: &'static str,
    cause: &'static str,
    fix: &'static str,
}

/// Deploys, and holds command line, API and page to the same sentence.
fn fails(project: &str, git: &str, more: &[&str], expected: &Expected) -> Result<()> {
    let platform = platform()?;
    let mut arguments = vec![
        "deploy",
        "--git",
        git,
        "--project",
        project,
        "--wait",
        "--json",
    ];
    arguments.extend_from_slice(more);
    let outcome = platform.berth(&arguments)?;
    ensure!(
        outcome.code == 1,
        "exit code {}: {}",
        outcome.code,
        outcome.text()
    );
    let done = outcome.json()?;
    ensure!(done["state"] == "failed", "{done}");
    let said = format!("{done:#}");
    let diagnosis = &done["diagnosis"];
    let holds = |field: &str, text: &str| {
        diagnosis[field]
            .as_str()
            .is_some_and(|said| said.contains(text))
    };
    ensure!(diagnosis["code"] == expected.code, "code: {said}");
    ensure!(holds("cause", expected.cause), "cause: {said}");
    ensure!(holds("fix", expected.fix), "fix: {said}");
    ensure!(
        outcome.stderr.contains(expected.cause) || outcome.stdout.contains(expected.cause),
        "{outcome:?}"
    );
    same_everywhere(&platform, project, diagnosis)
}

/// The API, the page and the kept log.
fn same_everywhere(platform: &Platform, project: &str, diagnosis: &Value) -> Result<()> {
    let http = reqwest::blocking::Client::new();
    let base = format!("{}/api/v1/projects/{project}/deployments", platform.url());
    let list: Value = http
        .get(&base)
        .bearer_auth(platform.token()?)
        .send()?
        .json()?;
    let newest = &list["deployments"][0];
    ensure!(newest["state"] == "failed", "{newest}");
    ensure!(
        newest["diagnosis"]["cause"] == diagnosis["cause"],
        "the API says {newest}"
    );
    ensure!(
        newest["diagnosis"]["fix"] == diagnosis["fix"],
        "the API says {newest}"
    );
    let number = newest["number"].as_i64().context("no number")?;
    let logs: Value = http
        .get(format!("{base}/{number}/logs?stream=build"))
        .bearer_auth(platform.token()?)
        .send()?
        .json()?;
    ensure!(
        logs["lines"]
            .as_array()
            .is_some_and(|lines| !lines.is_empty()),
        "the log is kept: {logs}"
    );
    let page = platform.page(&format!("/projects/{project}/deployments/{number}"))?;
    for field in ["cause", "fix"] {
        let sentence = diagnosis[field].as_str().context("a diagnosis has both")?;
        ensure!(
            page.contains(&escaped(sentence)),
            "the page lacks “{sentence}”: {page}"
        );
    }
    Ok(())
}

/// As the templates write text.
fn escaped(text: &str) -> String {
    text.replace('&', "&#38;")
        .replace('<', "&#60;")
        .replace('>', "&#62;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

fn repository(code: &str, requirements: &str) -> Result<Repository> {
    Repository::new(&[("main.py", code), ("requirements.txt", requirements)])
}

const FASTMCP_4: &str = "fastmcp==4.1.2\n";

fn missing_repository() -> Result<()> {
    let gone = tempfile::TempDir::new()?.path().join("gone.git");
    let expected = Expected {
        code: "repository_not_found",
        cause: "no Git repository",
        fix: "Check",
    };
    fails(
        "missing-repository",
        &format!("file://{}", gone.display()),
        &[],
        &expected,
    )
}

fn unreachable_repository() -> Result<()> {
    let expected = Expected {
        code: "repository_unreachable",
        cause: "no-such-host.invalid",
        fix: "Check",
    };
    fails(
        "unreachable-repository",
        "https://no-such-host.invalid/a.git",
        &[],
        &expected,
    )
}

fn private_address() -> Result<()> {
    let expected = Expected {
        code: "address_forbidden",
        cause: "127.0.0.1 is not a public address",
        fix: "public host",
    };
    fails("private-address", "https://127.0.0.1/a.git", &[], &expected)
}

fn unknown_ref() -> Result<()> {
    let repository = repository(FASTMCP, FASTMCP_4)?;
    let expected = Expected {
        code: "ref_not_found",
        cause: "no branch or tag named no-such-branch",
        fix: "Use one of those it has (main)",
    };
    fails(
        "unknown-ref",
        &repository.url(),
        &["--branch", "no-such-branch"],
        &expected,
    )
}

fn no_entrypoint() -> Result<()> {
    let repository = Repository::new(&[
        ("README.md", "nothing here"),
        ("requirements.txt", FASTMCP_4),
    ])?;
    let expected = Expected {
        code: "no_entrypoint",
        cause: "no Python file",
        fix: "set the entrypoint",
    };
    fails("no-entrypoint", &repository.url(), &[], &expected)
}

fn entrypoint_that_is_not_there() -> Result<()> {
    let repository = repository(FASTMCP, FASTMCP_4)?;
    let expected = Expected {
        code: "entrypoint_not_found",
        cause: "other.py",
        fix: "main.py",
    };
    fails(
        "entrypoint-not-there",
        &repository.url(),
        &["--entrypoint", "other.py"],
        &expected,
    )
}

fn no_server_object() -> Result<()> {
    let repository = repository("import fastmcp\nprint('hello')\n", FASTMCP_4)?;
    let expected = Expected {
        code: "no_server_object",
        cause: "main.py",
        fix: "mcp",
    };
    fails("no-server-object", &repository.url(), &[], &expected)
}

fn wrong_object_name() -> Result<()> {
    let repository = repository(FASTMCP, FASTMCP_4)?;
    let expected = Expected {
        code: "object_not_found",
        cause: "nope",
        fix: "mcp",
    };
    fails(
        "wrong-object",
        &repository.url(),
        &["--entrypoint", "main.py:nope"],
        &expected,
    )
}

fn import_error() -> Result<()> {
    let repository = repository(&format!("import requests_oauthlib\n{FASTMCP}"), FASTMCP_4)?;
    let expected = Expected {
        code: "package_missing",
        cause: "requests_oauthlib",
        fix: "requirements.txt",
    };
    fails("import-error", &repository.url(), &[], &expected)
}

fn syntax_error() -> Result<()> {
    let repository = repository(&format!("{FASTMCP}\ndef broken(:\n"), FASTMCP_4)?;
    let expected = Expected {
        code: "syntax_error",
        cause: "not valid Python",
        fix: "Correct the line",
    };
    fails("syntax-error", &repository.url(), &[], &expected)
}

fn dependencies_that_do_not_resolve() -> Result<()> {
    let repository = repository(FASTMCP, "fastmcp==4.1.2\nmcp==1.2.0\n")?;
    let expected = Expected {
        code: "dependencies_unresolvable",
        cause: "mcp",
        fix: "requirements.txt",
    };
    fails("unresolvable", &repository.url(), &[], &expected)
}

fn missing_variable() -> Result<()> {
    let repository = repository(
        &format!("import os\nkey = os.environ['WEATHER_KEY']\n{FASTMCP}"),
        FASTMCP_4,
    )?;
    let expected = Expected {
        code: "missing_variable",
        cause: "WEATHER_KEY",
        fix: "berth env",
    };
    fails("missing-variable", &repository.url(), &[], &expected)
}

fn port_never_opens() -> Result<()> {
    let repository = repository(
        &format!("import time\ntime.sleep(600)\n{FASTMCP}"),
        FASTMCP_4,
    )?;
    let expected = Expected {
        code: "start_timeout",
        cause: "12 s",
        fix: "import",
    };
    fails("port-never-opens", &repository.url(), &[], &expected)
}

/// Taken, reserved and invalid names, at the command line and in the API.
fn project_names() -> Result<()> {
    let platform = platform()?;
    let http = reqwest::blocking::Client::new();
    let create = |name: &str| -> Result<(u16, String)> {
        let answer = http
            .post(format!("{}/api/v1/projects", platform.url()))
            .bearer_auth(platform.token()?)
            .json(&json!({ "name": name }))
            .send()?;
        Ok((
            answer.status().as_u16(),
            answer.json::<Value>()?["detail"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        ))
    };
    ensure!(create("taken")?.0 == 201, "the first");
    let (status, detail) = create("taken")?;
    ensure!(
        status == 409 && detail == "The project name “taken” is taken; choose another.",
        "{status} {detail}"
    );
    let (status, detail) = create("www")?;
    ensure!(
        status == 422 && detail.contains("“www” is reserved"),
        "{status} {detail}"
    );
    let too_long = "x".repeat(41);
    for name in [
        "",
        "UPPER",
        "under_score",
        "-a",
        "a-",
        "a--b",
        "a.b",
        "ä",
        too_long.as_str(),
        "a\nb",
    ] {
        let (status, detail) = create(name)?;
        ensure!(
            status == 422 && detail.contains("lower-case letters, digits and single hyphens"),
            "{name}: {status} {detail}"
        );
    }
    let repository = repository(FASTMCP, FASTMCP_4)?;
    let outcome = platform.berth(&[
        "deploy",
        "--git",
        &repository.url(),
        "--project",
        "Not_A_Name",
    ])?;
    ensure!(outcome.code == 1 || outcome.code == 2, "{outcome:?}");
    ensure!(
        outcome
            .text()
            .contains("lower-case letters, digits and single hyphens"),
        "{outcome:?}"
    );
    Ok(())
}

fn oversize_upload() -> Result<()> {
    let platform = platform()?;
    let directory = tempfile::TempDir::new()?;
    std::fs::write(directory.path().join("main.py"), FASTMCP)?;
    // Random bytes do not compress.
    let mut noise = vec![0_u8; 3 * 1024 * 1024];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| std::io::Read::read_exact(&mut source, &mut noise))?;
    std::fs::write(directory.path().join("model.bin"), noise)?;
    let path = directory.path().to_string_lossy().into_owned();
    let outcome = platform.berth(&["deploy", &path, "--project", "oversize", "--wait"])?;
    ensure!(outcome.code == 1, "{outcome:?}");
    ensure!(outcome.text().contains("larger than 1 MiB"), "{outcome:?}");
    ensure!(outcome.text().contains(".gitignore"), "{outcome:?}");
    Ok(())
}

fn corrupt_archive() -> Result<()> {
    let platform = platform()?;
    let http = reqwest::blocking::Client::new();
    let api = format!("{}/api/v1/projects", platform.url());
    let token = platform.token()?;
    http.post(&api)
        .bearer_auth(token)
        .json(&json!({ "name": "corrupt" }))
        .send()?
        .error_for_status()?;
    let upload = |body: Vec<u8>| -> Result<(u16, Value)> {
        let answer = http
            .put(format!("{api}/corrupt/uploads"))
            .bearer_auth(token)
            .body(body)
            .send()?;
        Ok((answer.status().as_u16(), answer.json()?))
    };
    let (status, problem) = upload(b"this is no archive".to_vec())?;
    ensure!(status == 422, "{status} {problem}");
    ensure!(
        problem["detail"]
            .to_string()
            .contains("not a gzip-compressed tar archive"),
        "{problem}"
    );
    // Compressed, but not a tar within.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&[0x55; 2_000])?;
    let (status, stored) = upload(gzip.finish()?)?;
    ensure!(status == 201, "{status} {stored}");
    let queued: Value = http
        .post(format!("{api}/corrupt/deployments"))
        .bearer_auth(token)
        .json(&json!({ "upload": stored["sha256"] }))
        .send()?
        .error_for_status()?
        .json()?;
    let failed = tests::wait::until(
        "the deployment to fail",
        std::time::Duration::from_secs(30),
        || {
            let one: Value = http
                .get(format!("{api}/corrupt/deployments/{}", queued["number"]))
                .bearer_auth(token)
                .send()?
                .json()?;
            Ok((one["state"] == "failed").then_some(one))
        },
    )?;
    ensure!(failed["diagnosis"]["code"] == "archive_corrupt", "{failed}");
    Ok(())
}

fn a_failure_leaves_the_live_one_alone() -> Result<()> {
    let platform = platform()?;
    let repository = repository(FASTMCP, FASTMCP_4)?;
    let live = platform.deploy_live("stays", &repository.url(), &[])?;
    repository.commit(&[("main.py", "raise RuntimeError('broken on purpose')\n")])?;
    let failed = platform.deploy("stays", &repository.url(), &[])?;
    ensure!(failed["state"] == "failed", "{failed}");
    ensure!(
        failed["diagnosis"]["cause"]
            .to_string()
            .contains("broken on purpose"),
        "{failed}"
    );
    let caller = tests::mcp::Caller::new(&platform, "stays")?;
    let answer = caller.call("add", &json!({ "a": 1, "b": 1 }))?;
    ensure!(answer.status() == 200, "{answer:?}");
    ensure!(
        answer.headers()["berth-commit"] == live["commit"].as_str().context("no commit")?,
        "{answer:?}"
    );
    Ok(())
}
