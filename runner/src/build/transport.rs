//! Git's smart HTTP protocol over our own HTTP client, registered with libgit2 under a scheme of
//! our own, so that address checks, the CA bundle, redirects, time and size are ours.
//!
//! libgit2 sees `berth-fetch://<id>/`; the id finds the [`Session`] with the real address. What
//! goes wrong is kept in the session as a [`Fault`], because libgit2 carries only text.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};
use git2::{ErrorClass, ErrorCode};
use outbound::{CheckedResolver, Forbidden, Reach};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Client, Response, StatusCode};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

/// The scheme under which libgit2 knows this transport.
const SCHEME: &str = "berth-fetch";
/// Most bytes received in one fetch: a compressed tree within the source's limit, and room for
/// the list of branches of a large repository.
pub const MAX_FETCH_BYTES: u64 = 256 * 1024 * 1024;
/// Most bytes of what libgit2 asks for in one request: a few lines per wanted commit.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;
/// Longest wait for a connection, so that a dead address does not use up the whole fetch.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Most redirects within the host: a renamed repository needs one, `.git` appended another.
const MAX_REDIRECTS: u32 = 3;
/// Some Git hosts answer the smart protocol only to agents whose name begins with `git/`.
const USER_AGENT: &str = concat!("git/2.0 (berth ", env!("CARGO_PKG_VERSION"), ")");

/// What went wrong on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The host is, or resolves to, an address that is not public.
    Forbidden(String),
    /// No connection, or it broke. The text is the innermost cause.
    Unreachable(String),
    /// An answer that says there is nothing to read: 401, 403, 404, 410, or not Git's protocol.
    NotFound(String),
    /// Another failing status.
    Status(u16),
    /// A redirect to somewhere else.
    Moved(String),
    /// More than [`MAX_FETCH_BYTES`].
    TooLarge,
    /// The deadline passed.
    TimedOut,
    /// Nobody wants the answer any more.
    Canceled,
}

/// One fetch: where it goes, until when, and what became of it.
pub struct Session {
    base: Mutex<Url>,
    client: Client,
    reach: Reach,
    handle: Handle,
    deadline: Instant,
    canceled: CancellationToken,
    received: AtomicU64,
    fault: Mutex<Option<Fault>>,
    credential: Option<HeaderValue>,
}

impl Session {
    /// Shows a credential with every request. They all go to one origin: see [`Self::redirected`].
    #[must_use]
    pub fn with_credential(mut self, credential: HeaderValue) -> Self {
        self.credential = Some(credential);
        self
    }

    /// Prepares a fetch of `url`. Must be called within a tokio runtime; libgit2's blocking calls
    /// then wait on it from a blocking thread.
    pub fn new(
        url: Url,
        reach: &Reach,
        deadline: Instant,
        canceled: CancellationToken,
    ) -> anyhow::Result<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one client for strangers' addresses: every address is checked"
        )]
        let builder = Client::builder();
        let client = builder
            .user_agent(USER_AGENT)
            .https_only(url.scheme() == "https")
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy() // a proxy would connect for us, past the address check
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .dns_resolver(Arc::new(CheckedResolver::new(reach.clone())))
            .build()?;
        Ok(Self {
            base: Mutex::new(url),
            client,
            reach: reach.clone(),
            handle: Handle::current(),
            deadline,
            canceled,
            received: AtomicU64::new(0),
            fault: Mutex::new(None),
            credential: None,
        })
    }

    /// What went wrong, if anything did.
    pub fn fault(&self) -> Option<Fault> {
        lock(&self.fault).clone()
    }

    /// Whether the work is to stop, for libgit2's own loops.
    pub fn is_over(&self) -> bool {
        if self.canceled.is_cancelled() {
            self.record(Fault::Canceled);
            return true;
        }
        if Instant::now() >= self.deadline {
            self.record(Fault::TimedOut);
            return true;
        }
        false
    }

    /// Keeps the first fault: later ones follow from it.
    fn record(&self, fault: Fault) -> Fault {
        lock(&self.fault).get_or_insert(fault).clone()
    }

    /// Waits for `future` within the deadline. Called from libgit2's thread.
    fn wait<T>(&self, future: impl Future<Output = reqwest::Result<T>>) -> Result<T, Fault> {
        let result = self.handle.block_on(async {
            tokio::select! {
                biased;
                () = self.canceled.cancelled() => Err(Fault::Canceled),
                () = tokio::time::sleep_until(self.deadline) => Err(Fault::TimedOut),
                result = future => result.map_err(|error| fault_of(&error)),
            }
        });
        result.map_err(|fault| self.record(fault))
    }

    /// Asks; with a body it is a POST of what libgit2 wants.
    fn request(
        &self,
        url: Url,
        accept: &'static str,
        body: Option<Vec<u8>>,
    ) -> Result<Response, Fault> {
        self.check_literal(&url)?;
        let request = match body {
            None => self.client.get(url),
            Some(body) => self
                .client
                .post(url)
                .header(CONTENT_TYPE, "application/x-git-upload-pack-request")
                .body(body),
        };
        let request = match &self.credential {
            Some(credential) => request.header(AUTHORIZATION, credential),
            None => request,
        };
        self.wait(request.header(ACCEPT, accept).send())
    }

    /// Addresses written as such never reach the resolver, so they are checked here. The parser
    /// has already turned every spelling (`0x7f.1`, `017700000001`) into the address it means.
    fn check_literal(&self, url: &Url) -> Result<(), Fault> {
        let address: IpAddr = match url.host() {
            Some(url::Host::Ipv4(v4)) => v4.into(),
            Some(url::Host::Ipv6(v6)) => v6.into(),
            _ => return Ok(()),
        };
        if self.reach.permits(address) {
            return Ok(());
        }
        Err(self.record(Fault::Forbidden(format!(
            "{address} is not a public address"
        ))))
    }

    /// `GET …/info/refs?service=git-upload-pack` (gitprotocol-http, "Smart Clients").
    fn references(self: &Arc<Self>) -> Result<Answer, Fault> {
        const TYPE: &str = "application/x-git-upload-pack-advertisement";
        let mut url = self.endpoint("info/refs");
        url.set_query(Some("service=git-upload-pack"));
        for _ in 0..=MAX_REDIRECTS {
            let response = self.request(url.clone(), TYPE, None)?;
            if response.status().is_redirection() {
                url = self.redirected(&url, &response)?;
                continue;
            }
            let answer = self.answer(response, TYPE)?;
            self.rebase(&url);
            return Ok(answer);
        }
        Err(self.record(Fault::Moved("itself, over and over".to_owned())))
    }

    /// `POST …/git-upload-pack`. Never redirected: the first request has settled where it is.
    fn upload_pack(self: &Arc<Self>, body: Vec<u8>) -> Result<Answer, Fault> {
        const TYPE: &str = "application/x-git-upload-pack-result";
        let response = self.request(self.endpoint("git-upload-pack"), TYPE, Some(body))?;
        self.answer(response, TYPE)
    }

    fn endpoint(&self, tail: &str) -> Url {
        let mut url = lock(&self.base).clone();
        let path = format!("{}/{tail}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url
    }

    /// The next address of a redirect within the host, which is how hosts rename repositories.
    fn redirected(&self, from: &Url, response: &Response) -> Result<Url, Fault> {
        let target = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| from.join(value).ok())
            .ok_or_else(|| self.record(Fault::Moved("nowhere".to_owned())))?;
        let inside = target.origin() == from.origin()
            && target.username().is_empty()
            && target.password().is_none()
            && target.path().ends_with("/info/refs")
            && target.query() == from.query();
        if inside {
            return Ok(target);
        }
        let mut shown = target;
        shown.set_query(None);
        Err(self.record(Fault::Moved(shown.to_string())))
    }

    fn rebase(&self, answered: &Url) {
        let mut base = answered.clone();
        base.set_query(None);
        let path = base.path().trim_end_matches("/info/refs").to_owned();
        base.set_path(&path);
        *lock(&self.base) = base;
    }

    fn answer(self: &Arc<Self>, response: Response, expected: &str) -> Result<Answer, Fault> {
        let status = response.status();
        match status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::GONE => {
                return Err(self.record(Fault::NotFound(status.as_u16().to_string())));
            }
            other => return Err(self.record(Fault::Status(other.as_u16()))),
        }
        let found = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        if found != Some(expected) {
            return Err(self.record(Fault::NotFound("no Git protocol".to_owned())));
        }
        Ok(Answer {
            session: Arc::clone(self),
            response,
            rest: Bytes::new(),
        })
    }
}

/// The body of an answer, read within the session's bounds.
struct Answer {
    session: Arc<Session>,
    response: Response,
    rest: Bytes,
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            let chunk = self
                .session
                .wait(self.response.chunk())
                .map_err(|fault| io_error(&fault))?;
            let Some(chunk) = chunk else { return Ok(0) };
            let length = chunk.len() as u64;
            let total = self.session.received.fetch_add(length, Ordering::Relaxed) + length;
            if total > MAX_FETCH_BYTES {
                return Err(io_error(&self.session.record(Fault::TooLarge)));
            }
            self.rest = chunk;
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

/// One request and its answer: libgit2 writes the whole request before it reads.
struct Exchange {
    session: Arc<Session>,
    asked: Vec<u8>,
    answer: Option<Answer>,
}

impl Read for Exchange {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.answer.is_none() {
            let asked = std::mem::take(&mut self.asked);
            self.answer = Some(
                self.session
                    .upload_pack(asked)
                    .map_err(|fault| io_error(&fault))?,
            );
        }
        self.answer
            .as_mut()
            .map_or(Ok(0), |answer| answer.read(buffer))
    }
}

impl Write for Exchange {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.answer.is_some() || self.asked.len() + buffer.len() > MAX_REQUEST_BYTES {
            return Err(io::Error::other("unexpected write in Git's protocol"));
        }
        self.asked.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The answer to the first request has nothing to write to.
struct Listing(Answer);

impl Read for Listing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Listing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::other("unexpected write in Git's protocol"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Subtransport(Arc<Session>);

impl SmartSubtransport for Subtransport {
    fn action(
        &self,
        _url: &str,
        action: Service,
    ) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        match action {
            Service::UploadPackLs => {
                let answer = self.0.references().map_err(|fault| git_error(&fault))?;
                Ok(Box::new(Listing(answer)))
            }
            Service::UploadPack => Ok(Box::new(Exchange {
                session: Arc::clone(&self.0),
                asked: Vec::new(),
                answer: None,
            })),
            Service::ReceivePackLs | Service::ReceivePack => Err(git2::Error::new(
                ErrorCode::Invalid,
                ErrorClass::Net,
                "this transport only reads",
            )),
        }
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

static SESSIONS: LazyLock<Mutex<HashMap<Uuid, Arc<Session>>>> = LazyLock::new(Mutex::default);

/// A session that libgit2 can reach at [`Registered::url`] while this lives.
pub struct Registered {
    id: Uuid,
    /// The session.
    pub session: Arc<Session>,
}

impl Registered {
    /// Makes `session` reachable.
    pub fn new(session: Session) -> anyhow::Result<Self> {
        register_once()?;
        let id = Uuid::new_v4();
        let session = Arc::new(session);
        lock(&SESSIONS).insert(id, Arc::clone(&session));
        Ok(Self { id, session })
    }

    /// What to give libgit2 as the remote's address.
    pub fn url(&self) -> String {
        format!("{SCHEME}://{}/", self.id)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&SESSIONS).remove(&self.id);
    }
}

/// Registers the transport with libgit2, at the first use of the process.
#[expect(
    unsafe_code,
    reason = "registering must not race with the creation of other transports: `OnceLock` runs it once, and every transport of this process is created after it, in `Registered`'s users"
)]
fn register_once() -> anyhow::Result<()> {
    static REGISTERED: OnceLock<Result<(), String>> = OnceLock::new();
    REGISTERED
        .get_or_init(|| {
            // SAFETY: see the reason above; the factory owns nothing but a static map.
            unsafe { git2::transport::register(SCHEME, factory) }.map_err(|error| error.to_string())
        })
        .clone()
        .map_err(|error| anyhow::anyhow!("cannot register the Git transport: {error}"))
}

fn factory(remote: &git2::Remote<'_>) -> Result<Transport, git2::Error> {
    let unknown = || git2::Error::new(ErrorCode::NotFound, ErrorClass::Net, "no such fetch");
    let url = remote.url()?;
    let id: Uuid = url
        .strip_prefix(SCHEME)
        .and_then(|rest| rest.strip_prefix("://"))
        .and_then(|rest| rest.trim_end_matches('/').parse().ok())
        .ok_or_else(unknown)?;
    let session = lock(&SESSIONS).get(&id).cloned().ok_or_else(unknown)?;
    Transport::smart(remote, true, Subtransport(session))
}

/// A panic while a lock was held leaves plain data behind, which stays usable.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fault_of(error: &reqwest::Error) -> Fault {
    if let Some(forbidden) = Forbidden::within(error) {
        return Fault::Forbidden(forbidden.to_string());
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    Fault::Unreachable(innermost.to_string())
}

/// The text is never shown: the session's fault is.
fn io_error(fault: &Fault) -> io::Error {
    io::Error::other(format!("{fault:?}").replace('\0', ""))
}

fn git_error(fault: &Fault) -> git2::Error {
    git2::Error::new(
        ErrorCode::GenericError,
        ErrorClass::Net,
        format!("{fault:?}").replace('\0', ""),
    )
}
