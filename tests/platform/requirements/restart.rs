//! R33: what was revoked stays so when the whole platform dies and starts again.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};
use tests::oauth::{App, field};
use tests::platform::{Options, Platform};
use tests::spare_edge::SpareEdge;
use tests::wait;

use super::gateway::SOON;
use super::{Echo, PROJECT};
use crate::Test;

pub const TESTS: &[Test] = &[(
    "r33_nothing_revoked_works_again_after_a_restart",
    r33_restart,
)];

/// Longest from a restart to routes from the database at the edge.
const RESTART: Duration = Duration::from_mins(2);

/// What one client holds.
struct Held<'a> {
    what: &'static str,
    app: App<'a>,
    access: Vec<String>,
    refresh: Vec<String>,
    codes: Vec<String>,
}

impl<'a> Held<'a> {
    /// A new client with the tokens of one flow.
    fn new(platform: &'a Platform, what: &'static str) -> Result<Self> {
        let app = App::register(platform, &json!({}))?;
        let mut held = Self {
            what,
            app,
            access: Vec::new(),
            refresh: Vec::new(),
            codes: Vec::new(),
        };
        let tokens = held.app.tokens(PROJECT)?;
        held.take(&tokens)?;
        Ok(held)
    }

    fn take(&mut self, tokens: &Value) -> Result<()> {
        let text = |name: &str| -> Result<String> {
            Ok(tokens[name].as_str().context("a token")?.to_owned())
        };
        self.access.push(text("access_token")?);
        self.refresh.push(text("refresh_token")?);
        Ok(())
    }

    /// A code that nobody has used yet.
    fn leave_code(&mut self) -> Result<()> {
        self.codes.push(self.app.code(PROJECT)?);
        Ok(())
    }

    /// Every refresh token and code is refused.
    fn ensure_refused(&self) -> Result<()> {
        let refused = |what: &str, answer: Response| -> Result<()> {
            let status = answer.status();
            let body: Value = answer.json()?;
            ensure!(
                status == 400 && body["error"] == "invalid_grant",
                "{what} of one who {}: {status} {body}",
                self.what
            );
            Ok(())
        };
        for token in &self.refresh {
            refused("a refresh token", self.app.refresh(token)?)?;
        }
        for code in &self.codes {
            refused("a code", self.app.exchange(code)?)?;
        }
        Ok(())
    }
}

/// A refresh token that is used again long after it was exchanged ends its family.
fn replayed(platform: &Platform) -> Result<Held<'_>> {
    let mut held = Held::new(platform, "used a refresh token twice")?;
    let first = held.refresh[0].clone();
    let renewed: Value = held.app.refresh(&first)?.error_for_status()?.json()?;
    held.take(&renewed)?;
    platform.sql("update refresh_tokens set used_at = used_at - interval '5 minutes' where used_at is not null")?;
    ensure!(held.app.refresh(&first)?.status() == 400, "a replay");
    Ok(held)
}

/// A code that is used again ends what it gave.
fn reused(platform: &Platform) -> Result<Held<'_>> {
    let mut held = Held::new(platform, "used a code twice")?;
    let code = held.app.code(PROJECT)?;
    // The grant of the first flow stays: it is no part of what is refused.
    held.access.clear();
    held.refresh.clear();
    let tokens: Value = held.app.exchange(&code)?.error_for_status()?.json()?;
    held.take(&tokens)?;
    ensure!(held.app.exchange(&code)?.status() == 400, "a second use");
    held.codes.push(code);
    Ok(held)
}

/// RFC 7009, by either token.
fn given_back<'a>(
    platform: &'a Platform,
    what: &'static str,
    token: fn(&Held<'_>) -> String,
) -> Result<Held<'a>> {
    let held = Held::new(platform, what)?;
    held.app
        .http
        .post(format!("{}/oauth/revoke", platform.url()))
        .form(&[("client_id", &held.app.id), ("token", &token(&held))])
        .send()?
        .error_for_status()?;
    Ok(held)
}

/// The id under which a client is listed as a connected app.
fn app_id(held: &Held<'_>, platform: &Platform) -> Result<String> {
    let listed = platform
        .berth(&["apps", "list", "--json"])?
        .success()?
        .json()?;
    let all = listed.as_array().or_else(|| listed["apps"].as_array());
    let own = all
        .into_iter()
        .flatten()
        .find(|app| app["client_id"] == *held.app.id);
    let id = own.and_then(|app| app["id"].as_str());
    Ok(id
        .with_context(|| format!("the app is listed: {listed}"))?
        .to_owned())
}

fn withdrawn_by_api(platform: &Platform) -> Result<Held<'_>> {
    let mut held = Held::new(platform, "was disconnected through the API")?;
    held.leave_code()?;
    let id = app_id(&held, platform)?;
    let address = format!("{}/api/v1/apps/{id}", platform.url());
    Client::new()
        .delete(address)
        .bearer_auth(platform.token()?)
        .send()?
        .error_for_status()?;
    Ok(held)
}

fn withdrawn_on_the_page(platform: &Platform) -> Result<Held<'_>> {
    let mut held = Held::new(platform, "was disconnected on the page")?;
    held.leave_code()?;
    let action = format!("/apps/{}/revoke", app_id(&held, platform)?);
    let page = platform.page("/apps")?;
    let (_, form) = page.split_once(&action).context("the app has a form")?;
    let answer = held
        .app
        .http
        .post(format!("{}{action}", platform.url()))
        .header("cookie", platform.cookie()?)
        .header("origin", platform.url())
        .form(&[("csrf", field(form, "csrf")?)])
        .send()?;
    ensure!(answer.status().is_redirection(), "{answer:?}");
    Ok(held)
}

/// An API token for calls; its id comes with it.
fn api_token(platform: &Platform, name: &str) -> Result<(String, String)> {
    let made = platform
        .berth(&["tokens", "create", name, "--calls", "--json"])?
        .success()?
        .json()?;
    let text = |member: &str| Some(made[member].as_str()?.to_owned());
    Ok((
        text("id").context("no id")?,
        text("token").context("no token")?,
    ))
}

/// The status that the edge at `port` gives a caller with `token`.
fn status(port: u16, token: &str) -> Result<u16> {
    let host = format!("{PROJECT}.localhost");
    let http = Client::builder()
        .resolve(&host, (Ipv4Addr::LOCALHOST, port).into())
        .build()?;
    let answer = http
        .post(format!("http://{host}:{port}/mcp"))
        .bearer_auth(token)
        .header("x-test", "echo")
        .body("{}")
        .send()?;
    Ok(answer.status().as_u16())
}

/// No token of `dead` is good at the edge at `port`, and every one of `alive` is.
fn ensure_at_edge(port: u16, dead: &[&str], alive: &[&str]) -> Result<()> {
    for (tokens, wanted) in [(dead, 401), (alive, 200)] {
        for (at, token) in tokens.iter().enumerate() {
            let status = status(port, token)?;
            ensure!(status == wanted, "token {at}: {status}, not {wanted}");
        }
    }
    Ok(())
}

fn r33_restart() -> Result<()> {
    let platform = Arc::new(Platform::start(Options::default())?);
    let echo = Echo::deploy(platform, PROJECT, &super::repository()?)?;
    let platform = &*echo.platform;
    let (_, alive_key) = api_token(platform, "alive")?;
    let (id, dead_key) = api_token(platform, "dead")?;
    let mut alive = Held::new(platform, "goes on")?;
    alive.leave_code()?;
    let dead = [
        replayed(platform)?,
        reused(platform)?,
        given_back(platform, "gave a refresh token back", |held| {
            held.refresh[0].clone()
        })?,
        given_back(platform, "gave an access token back", |held| {
            held.access[0].clone()
        })?,
        withdrawn_by_api(platform)?,
        withdrawn_on_the_page(platform)?,
    ];
    platform.berth(&["tokens", "revoke", &id])?.success()?;
    // So that no code is refused for its age alone.
    platform.sql("update authorization_codes set expires_at = now() + interval '1 hour'")?;
    let mut dead_tokens: Vec<&str> = dead
        .iter()
        .flat_map(|it| &it.access)
        .map(|it| &**it)
        .collect();
    dead_tokens.push(&dead_key);
    let alive_tokens = [&*alive.access[0], &*alive_key, &*echo.token];
    for token in &dead_tokens {
        wait::until("the edge to refuse what was revoked", SOON, || {
            Ok((status(platform.port(), token)? == 401).then_some(()))
        })?;
    }
    // At this very moment: what an edge has refused once stands on its disk.
    platform.kill()?;
    platform.kill_database()?;
    let spare = SpareEdge::start(platform)?;
    wait::until("the spare edge to serve", SOON, || {
        Ok((status(spare.port(), &echo.token)? == 200).then_some(()))
    })?;
    ensure_at_edge(spare.port(), &dead_tokens, &alive_tokens).context("from the saved routes")?;
    drop(spare);
    restart(platform, &dead_tokens)?;
    ensure_at_edge(platform.port(), &dead_tokens, &alive_tokens).context("after the new routes")?;
    for held in &dead {
        held.ensure_refused()?;
    }
    let renewed: Value = alive
        .app
        .refresh(&alive.refresh[0])?
        .error_for_status()?
        .json()?;
    let exchanged: Value = alive
        .app
        .exchange(&alive.codes[0])?
        .error_for_status()?
        .json()?;
    for tokens in [renewed, exchanged] {
        let token = tokens["access_token"].as_str().context("no token")?;
        ensure!(
            status(platform.port(), token)? == 200,
            "an unrevoked one works"
        );
    }
    Ok(())
}

/// Starts the platform again and waits until its edge has routes of this run. No token of `dead` is
/// good at any time on the way.
fn restart(platform: &Platform, dead: &[&str]) -> Result<()> {
    platform.launch()?;
    wait::until("routes from the database", RESTART, || {
        for token in dead {
            // Until the edge listens there is no answer.
            let status = status(platform.port(), token).unwrap_or(401);
            if status == 200 {
                return Ok(Some(Err(anyhow::anyhow!("a revoked token works again"))));
            }
        }
        let told = platform.sql(
            "select count(*) from edges where last_seen_at > pg_postmaster_start_time()
             and version = (select value from versions where name = 'routes')",
        )?;
        Ok((told.trim() == "1").then_some(Ok(())))
    })??;
    platform.wait_ready()
}
