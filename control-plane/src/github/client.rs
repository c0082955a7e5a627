//! Talks to GitHub's REST API: one HTTP client, bounded and without a credential in any address.
//!
//! <https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api>

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use time::OffsetDateTime;
use url::Url;

use super::failure::Failure;
use crate::clock::Clock;
use crate::config::{Secret, ServeConfig};

/// The version of the API that this is written for.
const API_VERSION: &str = "2022-11-28";

/// GitHub refuses requests without one.
const USER_AGENT: &str = concat!("berth/", env!("CARGO_PKG_VERSION"));

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest request, whole. GitHub itself gives up after ten seconds.
const TIMEOUT: Duration = Duration::from_secs(12);

/// Longest answer, bytes: a page of a hundred repositories takes some 600 KiB.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// Longest sentence of GitHub's that is passed on.
const MAX_MESSAGE: usize = 300;

/// A renamed repository answers with one redirect to where it is now.
const MAX_REDIRECTS: usize = 3;

/// How long to keep away when GitHub limits without saying for how long, seconds. Its
/// documentation: "wait for at least one minute".
const UNTOLD_WAIT: i64 = 60;

/// Nobody is kept away longer than this, whatever an answer says, seconds. The primary limit's
/// window is an hour.
const MAX_WAIT: i64 = 3_600;

/// Credentials whose limits are remembered; beyond it those that are over go.
const MAX_LIMITED: usize = 10_000;

/// As whom GitHub is asked. The number or name tells whose limit it is.
#[derive(Debug)]
pub enum Credential<'a> {
    /// Nobody.
    None,
    /// The App itself, by a signed assertion.
    App(&'a Secret),
    /// An installation, by its token that reads.
    Installation(i64, &'a Secret),
    /// An installation, by its token that writes. GitHub limits what makes content more tightly, and
    /// that must keep nobody from reading.
    Writer(i64, &'a Secret),
    /// A person, by a token that is dropped right after.
    Person(&'a Secret),
}

impl Credential<'_> {
    /// Whose limit a request counts against; a person is asked for once.
    fn bucket(&self) -> Option<Bucket> {
        match self {
            Self::None => Some(Bucket::Nobody),
            Self::App(_) => Some(Bucket::App),
            Self::Installation(id, _) => Some(Bucket::Installation(*id)),
            Self::Writer(id, _) => Some(Bucket::Writer(*id)),
            Self::Person(_) => None,
        }
    }

    fn authorize(&self, request: RequestBuilder) -> Result<RequestBuilder, Failure> {
        let (Self::App(secret)
        | Self::Installation(_, secret)
        | Self::Writer(_, secret)
        | Self::Person(secret)) = self
        else {
            return Ok(request);
        };
        let mut value =
            HeaderValue::try_from(format!("Bearer {}", secret.expose())).map_err(|_| {
                Failure::Unauthorized("The credential is not one that can be sent.".into())
            })?;
        value.set_sensitive(true);
        Ok(request.header(AUTHORIZATION, value))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Bucket {
    Nobody,
    App,
    Installation(i64),
    Writer(i64),
}

/// One request: what, where, and with what.
#[derive(Debug)]
pub struct Call<'a> {
    method: Method,
    path: &'a [&'a str],
    query: &'a [(&'a str, String)],
    body: Option<Value>,
}

impl<'a> Call<'a> {
    /// Reads. Each part of the path is escaped whole.
    pub fn get(path: &'a [&'a str]) -> Self {
        Self {
            method: Method::GET,
            path,
            query: &[],
            body: None,
        }
    }

    /// Sends.
    pub fn post(path: &'a [&'a str], body: Option<Value>) -> Self {
        Self {
            method: Method::POST,
            path,
            query: &[],
            body,
        }
    }

    /// Changes.
    pub fn patch(path: &'a [&'a str], body: Value) -> Self {
        Self {
            method: Method::PATCH,
            path,
            query: &[],
            body: Some(body),
        }
    }

    /// With a query.
    #[must_use]
    pub fn query(mut self, query: &'a [(&'a str, String)]) -> Self {
        self.query = query;
        self
    }
}

/// The client. It remembers who is limited, and until when.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    api: Url,
    clock: Clock,
    limited: Mutex<HashMap<Bucket, OffsetDateTime>>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
    /// What is wrong with which field; where there is nothing more to say, it is left out.
    #[serde(default)]
    errors: Value,
}

impl Refusal {
    /// What GitHub says, with the sentences about single fields.
    fn sentence(&self) -> String {
        let errors = self.errors.as_array().into_iter().flatten();
        let more = errors.filter_map(|error| error["message"].as_str());
        let all: Vec<&str> = std::iter::once(&*self.message).chain(more).collect();
        printable(&all.join(" "))
    }
}

impl Client {
    /// A client for the API that the settings name.
    pub fn new(config: &ServeConfig, clock: Clock) -> anyhow::Result<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one client for GitHub, whose address is the operator's; it has time limits"
        )]
        let builder = reqwest::Client::builder();
        let http = builder
            .user_agent(USER_AGENT)
            .https_only(config.github_api_url.scheme() == "https")
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .build()?;
        Ok(Self {
            http,
            api: config.github_api_url.clone(),
            clock,
            limited: Mutex::default(),
        })
    }

    /// Asks and reads the answer.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        who: &Credential<'_>,
        call: Call<'_>,
    ) -> Result<T, Failure> {
        let body = self.send(who, call).await?;
        serde_json::from_slice(&body).map_err(|error| {
            // Where in the answer, not what stands there.
            Failure::Unavailable(format!(
                "GitHub answered something that cannot be read (line {}, column {}).",
                error.line(),
                error.column()
            ))
        })
    }

    async fn send(&self, who: &Credential<'_>, call: Call<'_>) -> Result<Vec<u8>, Failure> {
        let bucket = who.bucket();
        self.check_limit(bucket)?;
        let mut url = self.url(call.path, call.query)?;
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self
                .http
                .request(call.method.clone(), url.clone())
                .header(ACCEPT, "application/vnd.github+json")
                .header("X-GitHub-Api-Version", API_VERSION);
            if let Some(body) = &call.body {
                request = request.json(body);
            }
            let response = who
                .authorize(request)?
                .send()
                .await
                .map_err(|error| unreachable(&error))?;
            if response.status().is_redirection() {
                url = redirected(&url, &response)?;
                continue;
            }
            return self.read(bucket, response).await;
        }
        Err(Failure::Unavailable(
            "GitHub sends from one address to the next, over and over.".into(),
        ))
    }

    fn url(&self, path: &[&str], query: &[(&str, String)]) -> Result<Url, Failure> {
        // Addresses drop such parts, and what is left asks for something else.
        if path.iter().any(|part| matches!(*part, "" | "." | "..")) {
            return Err(Failure::Refused(
                "GitHub cannot be asked for a name that is empty or a dot.".into(),
            ));
        }
        let mut url = self.api.clone();
        url.path_segments_mut()
            .expect("http addresses have paths")
            .pop_if_empty()
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    async fn read(
        &self,
        bucket: Option<Bucket>,
        mut response: Response,
    ) -> Result<Vec<u8>, Failure> {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| unreachable(&error))?
        {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Failure::Unavailable(
                    "GitHub's answer is larger than expected.".into(),
                ));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(body);
        }
        let message = serde_json::from_slice(&body)
            .map(|refusal: Refusal| refusal.sentence())
            .unwrap_or_default();
        if let Some(until) = self.limit_of(status, &headers, &message) {
            self.remember(bucket, until);
            return Err(Failure::Limited { until });
        }
        Err(match status {
            StatusCode::UNAUTHORIZED => Failure::Unauthorized(message),
            StatusCode::FORBIDDEN if message.contains("suspended") => {
                Failure::Unauthorized(message)
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Failure::NotFound,
            status if status.is_server_error() => {
                Failure::Unavailable(format!("GitHub answered {}.", status.as_u16()))
            }
            status if message.is_empty() => {
                Failure::Refused(format!("GitHub answered {}.", status.as_u16()))
            }
            _ => Failure::Refused(format!("GitHub says: {message}")),
        })
    }

    /// Until when to keep away, if the answer is that of a limit, primary or secondary.
    fn limit_of(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        message: &str,
    ) -> Option<OffsetDateTime> {
        if !matches!(
            status,
            StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
        ) {
            return None;
        }
        let number =
            |name: &str| -> Option<i64> { headers.get(name)?.to_str().ok()?.trim().parse().ok() };
        let now = self.clock.now();
        let wait = if let Some(seconds) = number(RETRY_AFTER.as_str()) {
            seconds
        } else if number("x-ratelimit-remaining") == Some(0) {
            number("x-ratelimit-reset").map_or(UNTOLD_WAIT, |at| at - now.unix_timestamp())
        } else if status == StatusCode::TOO_MANY_REQUESTS
            || message.to_lowercase().contains("rate limit")
        {
            UNTOLD_WAIT
        } else {
            return None;
        };
        Some(now + time::Duration::seconds(wait.clamp(1, MAX_WAIT)))
    }

    fn check_limit(&self, bucket: Option<Bucket>) -> Result<(), Failure> {
        let Some(bucket) = bucket else { return Ok(()) };
        let limited = self.limited.lock().unwrap_or_else(PoisonError::into_inner);
        match limited.get(&bucket) {
            Some(until) if *until > self.clock.now() => Err(Failure::Limited { until: *until }),
            _ => Ok(()),
        }
    }

    fn remember(&self, bucket: Option<Bucket>, until: OffsetDateTime) {
        let Some(bucket) = bucket else { return };
        let mut limited = self.limited.lock().unwrap_or_else(PoisonError::into_inner);
        if limited.len() >= MAX_LIMITED {
            let now = self.clock.now();
            limited.retain(|_, until| *until > now);
        }
        limited.insert(bucket, until);
    }

    /// Carries a request of the oauth2 crate to GitHub's token endpoint. GitHub answers refusals
    /// with 200; they get the status of RFC 6749 section 5.2 here.
    pub async fn carry(
        &self,
        request: oauth2::HttpRequest,
    ) -> Result<oauth2::HttpResponse, Failure> {
        let request: reqwest::Request = request.try_into().map_err(|error| unreachable(&error))?;
        let mut response = self
            .http
            .execute(request)
            .await
            .map_err(|error| unreachable(&error))?;
        if response.status().is_server_error() {
            return Err(Failure::Unavailable(format!(
                "GitHub answered {}.",
                response.status().as_u16()
            )));
        }
        let mut answer = oauth2::HttpResponse::default();
        *answer.status_mut() = response.status();
        *answer.headers_mut() = response.headers().clone();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| unreachable(&error))?
        {
            if answer.body().len() + chunk.len() > MAX_ANSWER {
                return Err(Failure::Unavailable(
                    "GitHub's answer is larger than expected.".into(),
                ));
            }
            answer.body_mut().extend_from_slice(&chunk);
        }
        let refused = serde_json::from_slice::<Value>(answer.body())
            .is_ok_and(|body| body.get("error").is_some());
        if answer.status().is_success() && refused {
            *answer.status_mut() = StatusCode::BAD_REQUEST;
        }
        Ok(answer)
    }
}

/// Where a redirect leads, within the same host: nobody else gets the credential.
fn redirected(from: &Url, response: &Response) -> Result<Url, Failure> {
    response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| from.join(value).ok())
        .filter(|to| to.origin() == from.origin())
        .ok_or_else(|| Failure::Unavailable("GitHub sends to another host.".into()))
}

/// Without the address, which errors carry.
fn unreachable(error: &reqwest::Error) -> Failure {
    let what = if error.is_timeout() {
        "did not answer in time"
    } else if error.is_connect() {
        "cannot be reached"
    } else {
        "broke the connection"
    };
    Failure::Unavailable(format!("GitHub {what}."))
}

/// What GitHub says, as one line that is safe in pages and logs.
fn printable(message: &str) -> String {
    message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_MESSAGE)
        .collect()
}
