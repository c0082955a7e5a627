//! A platform of its own for a test, or one shared by many: `berth all` on a free port with a
//! private Postgres, on the machine's container engine.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use crate::tls::Front;
use crate::wait;

/// The owner's address on every test platform.
pub const OWNER_EMAIL: &str = "owner@localhost";

/// Long enough for a first start with `initdb` on a busy machine.
const START: Duration = Duration::from_mins(2);

/// How a platform differs from the usual.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// More settings, as environment variables.
    pub settings: Vec<(String, String)>,
}

/// A running platform; stopped, with everything it started, when dropped.
#[derive(Debug)]
pub struct Platform {
    data: PathBuf,
    port: u16,
    password: String,
    options: Options,
    front: Option<Front>,
    child: Mutex<Option<Child>>,
    token: OnceLock<String>,
    cookie: OnceLock<String>,
    cleaned: AtomicBool,
}

impl Platform {
    /// Starts one and waits until deployments can be made.
    pub fn start(options: Options) -> Result<Self> {
        Self::begin(options, &[])
    }

    /// One that people reach over https, as these projects too.
    pub fn start_secure(projects: &[&str]) -> Result<Self> {
        Self::begin(Options::default(), projects)
    }

    fn begin(options: Options, secure: &[&str]) -> Result<Self> {
        let data = crate::root()
            .join("target/test-data")
            .join(uuid::Uuid::now_v7().simple().to_string());
        std::fs::create_dir_all(&data)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let platform = Self {
            data,
            port,
            password: format!("canary-password-{}", uuid::Uuid::new_v4().simple()),
            options,
            front: match secure {
                [] => None,
                projects => Some(Front::start(port, projects)?),
            },
            child: Mutex::new(None),
            token: OnceLock::new(),
            cookie: OnceLock::new(),
            cleaned: AtomicBool::new(false),
        };
        platform.launch()?;
        platform.wait_ready()?;
        Ok(platform)
    }

    /// Starts the process (again).
    pub fn launch(&self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let child = Command::new(crate::berth_binary())
            .arg("all")
            .arg("--data")
            .arg(&self.data)
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args(["--url", &self.url()])
            .args(["--apps-domain", "localhost", "--allow-file-sources"])
            .env("BERTH_OWNER_EMAIL", OWNER_EMAIL)
            .env("BERTH_OWNER_PASSWORD", &self.password)
            .env("BERTH_LOG", "info")
            .envs(self.options.settings.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting berth")?;
        *self.child() = Some(child);
        Ok(())
    }

    /// Waits until the database answers and a runner is connected.
    pub fn wait_ready(&self) -> Result<()> {
        let http = self.http().timeout(Duration::from_secs(5)).build()?;
        wait::until("the platform to be ready", START, || {
            if let Some(status) = self
                .child()
                .as_mut()
                .and_then(|c| c.try_wait().transpose())
                .transpose()?
            {
                return Ok(Some(Err(anyhow!(
                    "berth ended with {status}: {}",
                    self.log_tail()
                ))));
            }
            let answer = http.get(format!("{}/api/v1/ready", self.url())).send()?;
            Ok(answer.status().is_success().then_some(Ok(())))
        })
        .with_context(|| self.log_tail())?
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `kill -9`: nothing gets to clean up.
    pub fn kill(&self) -> Result<()> {
        if let Some(mut child) = self.child().take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// `kill -9` for every process of the private database, which outlives that of the platform.
    pub fn kill_database(&self) -> Result<()> {
        let processes = self.database_processes()?;
        let (postmaster, children) = processes.split_first().context("no database")?;
        let kill = |processes: &[String]| {
            let mut command = Command::new("kill");
            command.args(["-KILL", "--"]).args(processes).output()
        };
        let killed = kill(std::slice::from_ref(postmaster))?;
        ensure!(killed.status.success(), "{killed:?}");
        // One whose client is gone may have ended by itself.
        if !children.is_empty() {
            kill(children)?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&self) -> Result<()> {
        let Some(mut child) = self.child().take() else {
            return Ok(());
        };
        Command::new("kill")
            .args(["-TERM", "--"])
            .arg(child.id().to_string())
            .status()?;
        let ended = wait::until("berth to end", Duration::from_mins(1), || {
            Ok(child.try_wait()?)
        });
        if ended.is_err() {
            child.kill()?;
            child.wait()?;
        }
        ended.map(|_| ())
    }

    /// The dashboard: `http://localhost:PORT`, or `https` at the proxy's port.
    pub fn url(&self) -> String {
        self.at("localhost")
    }

    /// A project's MCP URL.
    pub fn mcp_url(&self, project: &str) -> String {
        format!("{}/mcp", self.at(&format!("{project}.localhost")))
    }

    fn at(&self, host: &str) -> String {
        match &self.front {
            None => format!("http://{host}:{}", self.port),
            Some(front) => format!("https://{host}:{}", front.port()),
        }
    }

    /// What a client must trust, as PEM, of one that people reach over https.
    pub fn certificate(&self) -> Option<PathBuf> {
        self.front.as_ref().map(Front::certificate)
    }

    /// A client that trusts it and finds a project.
    pub fn client_of(&self, project: &str) -> reqwest::blocking::ClientBuilder {
        let port = self.front.as_ref().map_or(self.port, Front::port);
        self.http().resolve(
            &format!("{project}.localhost"),
            ([127, 0, 0, 1], port).into(),
        )
    }

    /// A client that trusts it.
    pub fn http(&self) -> reqwest::blocking::ClientBuilder {
        let builder = reqwest::blocking::Client::builder();
        match &self.front {
            None => builder,
            Some(front) => builder.tls_certs_only([front.trusted()]),
        }
    }

    /// The public port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The owner's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Where the process logs.
    pub fn log_path(&self) -> PathBuf {
        self.data.join("berth.log")
    }

    /// The end of the process's log, for a failure's message.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// An API token of the owner's, made once through sign-in by password.
    pub fn token(&self) -> Result<&str> {
        if let Some(token) = self.token.get() {
            return Ok(token);
        }
        let http = self.http().build()?;
        let answer = http
            .post(format!("{}/api/v1/login", self.url()))
            .json(&serde_json::json!({ "email": OWNER_EMAIL, "password": self.password }))
            .send()?;
        let body: serde_json::Value = answer.json()?;
        let token = body["token"]
            .as_str()
            .with_context(|| format!("no token in {body}"))?;
        Ok(self.token.get_or_init(|| token.to_owned()))
    }

    /// A project's newest deployment.
    pub fn newest(&self, project: &str) -> Result<serde_json::Value> {
        let listed = self.berth(&["deployments", project, "--json"])?;
        let listed = listed.success()?.json()?;
        listed.get(0).cloned().context("no deployment")
    }

    /// A page of the dashboard as the owner gets it.
    pub fn page(&self, path: &str) -> Result<String> {
        let http = self.http().build()?;
        let answer = http
            .get(format!("{}{path}", self.url()))
            .header("cookie", self.cookie()?)
            .send()?;
        Ok(answer.error_for_status()?.text()?)
    }

    /// The owner's session, made once through the sign-in form.
    pub fn cookie(&self) -> Result<&str> {
        if let Some(cookie) = self.cookie.get() {
            return Ok(cookie);
        }
        let http = self
            .http()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let address = format!("{}/signin", self.url());
        let form = http.get(&address).send()?.error_for_status()?;
        let anonymous = set_cookie(&form)?;
        let page = form.text()?;
        let csrf = page
            .split_once("name=\"csrf\" value=\"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(csrf, _)| csrf)
            .with_context(|| format!("no CSRF field in {page}"))?;
        let signed_in = http
            .post(&address)
            .header("cookie", anonymous)
            .header("origin", self.url())
            .form(&[
                ("csrf", csrf),
                ("email", OWNER_EMAIL),
                ("password", &self.password),
            ])
            .send()?;
        let cookie = set_cookie(&signed_in)?;
        Ok(self.cookie.get_or_init(|| cookie))
    }

    /// Ids of this platform's containers on the engine, running or not.
    pub fn containers(&self) -> Result<Vec<String>> {
        self.engine(&["ps", "--all", "--quiet", "--no-trunc"])
    }

    /// Ids of this platform's networks on the engine.
    pub fn networks(&self) -> Result<Vec<String>> {
        self.engine(&["network", "ls", "--quiet"])
    }

    fn engine(&self, arguments: &[&str]) -> Result<Vec<String>> {
        let label = format!("label=berth.installation={}", self.installation()?);
        let output = Command::new("docker")
            .args(arguments)
            .args(["--filter", &label])
            .output()?;
        Ok(String::from_utf8(output.stdout)?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// This platform's id, as it stands on everything it creates.
    pub fn installation(&self) -> Result<String> {
        Ok(self.sql("select id from installation")?.trim().to_owned())
    }

    /// Asks the private database. The statement is the test's own text.
    pub fn sql(&self, statement: &str) -> Result<String> {
        let output = Command::new("psql")
            .args(["--no-psqlrc", "--tuples-only", "--no-align", "--dbname"])
            .arg(self.database_url()?)
            .args(["--command", statement])
            .output()
            .context("psql is missing; run ./tests/run")?;
        if !output.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The private database's address. Postgres notes its socket in the fifth line of
    /// `postmaster.pid`.
    pub fn database_url(&self) -> Result<String> {
        let note = std::fs::read_to_string(self.data.join("postgres/postmaster.pid"))
            .context("the private database does not run")?;
        let socket = note
            .lines()
            .nth(4)
            .context("postmaster.pid without a socket")?;
        Ok(format!("postgresql:///postgres?host={socket}&user=berth"))
    }

    /// Every process of the private database: the postmaster first.
    pub fn database_processes(&self) -> Result<Vec<String>> {
        let note = std::fs::read_to_string(self.data.join("postgres/postmaster.pid"))?;
        let postmaster = note
            .lines()
            .next()
            .context("an empty postmaster.pid")?
            .trim()
            .to_owned();
        let children = Command::new("pgrep").args(["-P", &postmaster]).output()?;
        let mut all = vec![postmaster];
        all.extend(
            String::from_utf8(children.stdout)?
                .lines()
                .map(str::to_owned),
        );
        Ok(all)
    }
}

/// `name=value` of the cookie that an answer sets.
fn set_cookie(answer: &reqwest::blocking::Response) -> Result<String> {
    let header = answer
        .headers()
        .get("set-cookie")
        .with_context(|| format!("no cookie in {answer:?}"))?;
    Ok(header
        .to_str()?
        .split(';')
        .next()
        .unwrap_or_default()
        .to_owned())
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.clean_up();
    }
}

impl Platform {
    /// Stops it and everything it started, once; a failure is told.
    fn clean_up(&self) {
        if self.cleaned.swap(true, Ordering::Relaxed) {
            return;
        }
        let clean = || -> Result<()> {
            self.terminate()?;
            let down = Command::new(crate::berth_binary())
                .args(["admin", "down", "--data"])
                .arg(&self.data)
                .stdout(Stdio::null())
                .status()?;
            if down.success() && crate::setting("TEST_KEEP").is_none() {
                std::fs::remove_dir_all(&self.data)?;
            }
            Ok(())
        };
        if let Err(error) = clean() {
            eprintln!("cleaning up {}: {error:#}", self.data.display());
        }
    }
}

static SHARED: Mutex<Option<std::sync::Arc<Platform>>> = Mutex::new(None);

/// The platform that tests share which do not hurt it.
pub fn shared() -> Result<std::sync::Arc<Platform>> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(platform) = shared.as_ref() {
        return Ok(platform.clone());
    }
    let platform = std::sync::Arc::new(Platform::start(Options::default())?);
    *shared = Some(platform.clone());
    Ok(platform)
}

static SECURE: Mutex<Option<std::sync::Arc<Platform>>> = Mutex::new(None);

/// One more, that people reach over https: servers with a sign-in of their own share it. Whoever
/// asks first says for which projects.
pub fn shared_secure(projects: &[&str]) -> Result<std::sync::Arc<Platform>> {
    let mut shared = SECURE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(platform) = shared.as_ref() {
        return Ok(platform.clone());
    }
    let platform = std::sync::Arc::new(Platform::start_secure(projects)?);
    *shared = Some(platform.clone());
    Ok(platform)
}

/// Stops the shared platforms, whoever still holds them; called when the last test has ended.
pub fn stop_shared() {
    for shared in [&SHARED, &SECURE] {
        let shared = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(platform) = shared {
            platform.clean_up();
        }
    }
}
