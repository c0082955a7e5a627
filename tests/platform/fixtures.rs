//! Servers that many tests share, each deployed once to the shared platform.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use tests::mcp::Caller;
use tests::platform::Platform;
use tests::repository::Repository;
use tests::{sdist, wait};

/// Every feature of the handshake revisions: FastMCP 3 with sessions.
pub static LEGACY: Fixture = Fixture {
    project: "features-legacy",
    files: || {
        Ok(fixture(
            include_str!("../servers/legacy.py"),
            "fastmcp==3.4.10",
        ))
    },
    entrypoint: "server.py:app",
    repository: Mutex::new(None),
};

/// The same for revision 2026-07-28: FastMCP 4.
pub static MODERN: Fixture = Fixture {
    project: "features-modern",
    files: || {
        Ok(fixture(
            include_str!("../servers/modern.py"),
            "fastmcp==4.1.2",
        ))
    },
    entrypoint: "server.py:mcp",
    repository: Mutex::new(None),
};

/// The official Python SDK's example for the conformance suite, which serves all revisions.
pub static EVERYTHING: Fixture = Fixture {
    project: "features-everything",
    files: everything,
    entrypoint: "main.py:app",
    repository: Mutex::new(None),
};

/// What runs [`EVERYTHING`], besides the SDK itself.
pub const EVERYTHING_PACKAGES: &[&str] = &["mcp==2.3.0", "click"];

/// One such server.
pub struct Fixture {
    /// Its project's name.
    pub project: &'static str,
    files: fn() -> Result<Vec<(String, String)>>,
    entrypoint: &'static str,
    repository: Mutex<Option<Repository>>,
}

impl Fixture {
    /// Deploys it, if no test did so before.
    pub fn deploy(&self, platform: &Platform) -> Result<()> {
        let mut repository = self.lock();
        if repository.is_none() {
            let files = (self.files)()?;
            let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (&**n, &**t)).collect();
            let made = Repository::new(&files)?;
            platform.deploy_live(
                self.project,
                &made.url(),
                &["--entrypoint", self.entrypoint],
            )?;
            *repository = Some(made);
        }
        Ok(())
    }

    /// Deploys another commit, and waits until the edge sends new requests to it.
    pub fn redeploy(&self, platform: &Platform) -> Result<()> {
        let repository = self.lock();
        let repository = repository.as_ref().context("not deployed yet")?;
        let mark = uuid::Uuid::now_v7().to_string();
        let commit = repository.commit(&[("mark.txt", &mark)])?;
        platform.deploy_live(
            self.project,
            &repository.url(),
            &["--entrypoint", self.entrypoint],
        )?;
        let caller = Caller::new(platform, self.project)?;
        wait::until("the edge to know", Duration::from_secs(30), || {
            // A server of earlier revisions refuses this call, which is an answer of its own too.
            let answer = caller.call("commit", &json!({}))?;
            let from = answer.headers().get("berth-commit");
            Ok(from.is_some_and(|from| from == &*commit).then_some(()))
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Repository>> {
        self.repository
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn fixture(code: &str, requirements: &str) -> Vec<(String, String)> {
    vec![
        ("server.py".to_owned(), code.to_owned()),
        ("requirements.txt".to_owned(), format!("{requirements}\n")),
    ]
}

/// The path of the example's code in the source distribution.
pub const EVERYTHING_CODE: &str = "servers/everything-server/mcp_everything_server/server.py";

fn everything() -> Result<Vec<(String, String)>> {
    let code = sdist::examples("2.3.0")?
        .remove(EVERYTHING_CODE)
        .context("the SDK has no everything-server")?;
    // What its own `main` passes to `run`.
    let app = "import server\n\n\
        app = server.mcp.streamable_http_app(event_store=server.event_store, retry_interval=100)\n";
    Ok(vec![
        ("server.py".to_owned(), code),
        ("main.py".to_owned(), app.to_owned()),
        (
            "requirements.txt".to_owned(),
            EVERYTHING_PACKAGES.join("\n"),
        ),
    ])
}
