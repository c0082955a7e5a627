//! An identity provider on the test's machine, where people sign in for servers that have a sign-in
//! of their own. Instances and the browser both reach it at the container engine's own address.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use thirtyfour::prelude::*;

use crate::python;

/// What runs it.
const PACKAGES: &[&str] = &[
    "starlette==1.10.0",
    "uvicorn==0.54.0",
    "joserfc==1.8.0",
    "python-multipart==0.0.34",
];

/// Its one client's id.
const CLIENT_ID: &str = "berth-orders";

/// The one person that it knows.
pub const PERSON: &str = "ada@people.example";

/// The running provider; gone when dropped.
pub struct IdentityProvider {
    server: Child,
    url: String,
    secret: String,
}

impl IdentityProvider {
    /// Starts one that knows a server with this redirect address.
    pub fn serve(redirect_uri: &str) -> Result<Self> {
        let address = engine_address()?;
        let secret = uuid::Uuid::new_v4().simple().to_string();
        let mut server = Command::new(python::environment("identity-provider", PACKAGES)?)
            .arg(crate::root().join("tests/servers/identity_provider.py"))
            .args([&*address.to_string(), redirect_uri])
            .env("CLIENT_ID", CLIENT_ID)
            .env("CLIENT_SECRET", &secret)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the identity provider")?;
        let stdout = server.stdout.take().expect("standard output is a pipe");
        let mut issuer = String::new();
        BufReader::new(stdout).read_line(&mut issuer)?;
        ensure!(!issuer.is_empty(), "the identity provider did not start");
        Ok(Self {
            server,
            url: issuer.trim().to_owned(),
            secret,
        })
    }

    /// Its issuer, below which all of it lies.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What its client is told, as variables.
    pub fn variables(&self) -> [(&'static str, &str); 3] {
        [
            ("PROVIDER", &self.url),
            ("CLIENT_ID", CLIENT_ID),
            ("CLIENT_SECRET", &self.secret),
        ]
    }

    /// The grants for which it gave tokens, in order.
    pub fn grants(&self) -> Result<Vec<String>> {
        let answer = reqwest::blocking::get(format!("{}/grants", self.url))?;
        Ok(answer.error_for_status()?.json()?)
    }

    /// Signs its person in on the page that the browser shows.
    pub async fn sign_in(driver: &WebDriver) -> WebDriverResult<()> {
        let button = driver.query(By::Css("button[name=person]")).first().await?;
        button.click().await
    }
}

impl Drop for IdentityProvider {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The address of this machine on the engine's default bridge: every instance can reach it, and
/// nobody from outside. The kernel knows it: it is the source of what would go to a neighbor there.
fn engine_address() -> Result<Ipv4Addr> {
    let output = Command::new("docker")
        .args(["network", "inspect", "bridge"])
        .args(["--format", "{{(index .IPAM.Config 0).Subnet}}"])
        .output()?;
    let subnet = String::from_utf8(output.stdout)?;
    let (network, _) = subnet.split_once('/').with_context(|| {
        let why = String::from_utf8_lossy(&output.stderr);
        format!("the engine has no default bridge: {why}")
    })?;
    let neighbor = Ipv4Addr::from(u32::from(network.parse::<Ipv4Addr>()?) + 2);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // Nothing is sent.
    socket.connect((neighbor, 9))?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => bail!("{address} is not on the bridge {subnet}"),
    }
}
