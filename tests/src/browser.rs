//! A real browser: headless Chromium driven through ChromeDriver.

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use tempfile::TempDir;
use thirtyfour::prelude::*;

use crate::platform::{OWNER_EMAIL, Platform};
use crate::wait;

/// How long a page may take on a busy machine.
const ANSWER: Duration = Duration::from_secs(30);

/// One browser with an empty profile; gone when dropped.
pub struct Browser {
    driver: WebDriver,
    runtime: tokio::runtime::Runtime,
    chromedriver: Child,
    _profile: TempDir,
}

impl Browser {
    /// Starts ChromeDriver and a browser.
    pub fn start() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut chromedriver = Command::new("chromedriver");
        chromedriver
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let chromedriver = deaf_to_network_changes(&mut chromedriver)?.context(
            "chromedriver is missing; run ./tests/run, or apt-get install chromium-driver",
        )?;
        let profile = TempDir::new()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut capabilities = DesiredCapabilities::chrome();
        // Proxies of the tests' own make their certificates themselves.
        capabilities.accept_insecure_certs(true)?;
        for argument in [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1440,1000",
        ] {
            capabilities.add_arg(argument)?;
        }
        capabilities.add_arg(&format!("--user-data-dir={}", profile.path().display()))?;
        let driver = wait::until("ChromeDriver to answer", Duration::from_secs(30), || {
            let url = format!("http://127.0.0.1:{port}");
            Ok(Some(
                runtime.block_on(WebDriver::new(url, capabilities.clone()))?,
            ))
        })?;
        Ok(Self {
            driver,
            runtime,
            chromedriver,
            _profile: profile,
        })
    }

    /// Runs a journey.
    pub fn run<T>(&self, journey: impl AsyncFnOnce(&WebDriver) -> WebDriverResult<T>) -> Result<T> {
        Ok(self.runtime.block_on(journey(&self.driver))?)
    }

    /// Signs the owner in on the page that asks for it.
    pub fn sign_in(&self, platform: &Platform) -> Result<()> {
        self.run(async |driver| {
            driver
                .query(By::Name("email"))
                .first()
                .await?
                .send_keys(OWNER_EMAIL)
                .await?;
            let password = driver.query(By::Name("password")).first().await?;
            password.send_keys(platform.password()).await?;
            password.send_keys(Key::Enter + "").await
        })
    }

    /// Opens an authorization URL, signs in if asked, and allows the client, unless that was
    /// allowed before and is remembered.
    pub fn authorize(&self, platform: &Platform, url: &str) -> Result<()> {
        self.run(async |driver| driver.goto(url).await)?;
        let asks_to_sign_in =
            self.run(async |driver| driver.query(By::Name("password")).nowait().exists().await)?;
        if asks_to_sign_in {
            self.sign_in(platform)?;
        }
        wait::until("the consent page or its answer", ANSWER, || {
            self.run(async |driver| {
                let allow = driver.query(By::Css("button[value=allow]")).nowait();
                if let Some(button) = allow.first_opt().await? {
                    button.click().await?;
                    return Ok(Some(()));
                }
                let here = driver.current_url().await?;
                Ok((!here.as_str().starts_with(&platform.url())).then_some(()))
            })
        })
    }

    /// Where it is and what it shows, for the message of a test that failed.
    pub fn shows(&self) -> String {
        self.run(async |driver| {
            let (address, page) = (driver.current_url().await?, driver.source().await?);
            Ok(format!("the browser shows {address}: {page}"))
        })
        .unwrap_or_else(|error| format!("the browser shows nothing: {error:#}"))
    }

    /// Keeps a picture of the page.
    pub fn screenshot(&self, path: &Path) -> Result<()> {
        self.run(async |driver| driver.screenshot(path).await)
    }
}

/// Starts a program that cannot hear which network interfaces come and go. At each change Chromium
/// gives up the connections that it is opening and shows `ERR_NETWORK_CHANGED`, which the driver takes
/// for a page, and the engine makes and removes interfaces for every instance that another test
/// starts. Without the socket that tells of them it counts on a network that stays.
fn deaf_to_network_changes(command: &mut Command) -> Result<io::Result<Child>> {
    let is = |argument, value: libc::c_int| {
        let value = u64::try_from(value).expect("these numbers are not negative");
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
    };
    let (family, protocol) = (is(0, libc::AF_NETLINK)?, is(2, libc::NETLINK_ROUTE)?);
    let filter: BpfProgram = SeccompFilter::new(
        [(
            libc::SYS_socket,
            vec![SeccompRule::new(vec![family, protocol])?],
        )]
        .into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EAFNOSUPPORT.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()?;
    // A filter holds for the thread that sets it and for what it starts.
    std::thread::scope(|scope| {
        let started = scope.spawn(|| {
            seccompiler::apply_filter(&filter)?;
            Ok(command.spawn())
        });
        started.join().expect("starting a program does not panic")
    })
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Quitting ends the browser; ChromeDriver itself is ours to end.
        let _ = self.runtime.block_on(self.driver.clone().quit());
        let _ = self.chromedriver.kill();
        let _ = self.chromedriver.wait();
    }
}
