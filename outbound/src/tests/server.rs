//! A TLS server that says one thing, however hostile, and counts who came.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The authority that the fetchers of the tests trust.
static AUTHORITY: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed")
});

/// Its certificate, PEM.
pub fn authority() -> String {
    AUTHORITY.pem()
}

/// What a server says.
#[derive(Debug, Clone)]
pub struct Answer {
    head: String,
    /// Said again and again after the head.
    refrain: Option<&'static str>,
    /// Whether the connection stays open when everything is said.
    stays: bool,
}

impl Answer {
    pub fn raw(head: &str) -> Self {
        Self {
            head: head.to_owned(),
            refrain: None,
            stays: false,
        }
    }

    pub fn json(body: &str) -> Self {
        Self::typed("application/json", body)
    }

    pub fn typed(media: &str, body: &str) -> Self {
        let length = body.len();
        Self::raw(&format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {media}\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    }

    pub fn status(status: u16) -> Self {
        Self::raw(&format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
        ))
    }

    pub fn redirect(status: u16, to: &str) -> Self {
        Self::raw(&format!(
            "HTTP/1.1 {status} X\r\nlocation: {to}\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
        ))
    }

    pub fn endless() -> Self {
        Self {
            refrain: Some("                "),
            ..Self::raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        }
    }

    pub fn chunked_endless() -> Self {
        Self {
            refrain: Some("4\r\n    \r\n"),
            ..Self::raw(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
            )
        }
    }

    pub fn endless_headers() -> Self {
        Self {
            refrain: Some("x-more: and more and more and more and more\r\n"),
            ..Self::raw("HTTP/1.1 200 OK\r\n")
        }
    }

    pub fn silent() -> Self {
        Self {
            stays: true,
            ..Self::raw("")
        }
    }

    pub fn slow_body() -> Self {
        Self {
            stays: true,
            ..Self::raw(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{",
            )
        }
    }

    pub fn cut_off() -> Self {
        Self::raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{")
    }
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

/// Runs until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    _task: JoinSet<()>,
}

impl Server {
    /// With a good certificate for `client.example`.
    pub async fn start(at: [u8; 4], answer: Answer) -> Self {
        Self::serve(at, Some(certified(super::HOST, |_| ())), answer).await
    }

    pub async fn with_certificate_for(name: &str, at: [u8; 4]) -> Self {
        Self::serve(at, Some(certified(name, |_| ())), Answer::json("{}")).await
    }

    pub async fn expired(name: &str, at: [u8; 4]) -> Self {
        let expire = |params: &mut CertificateParams| {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        };
        Self::serve(at, Some(certified(name, expire)), Answer::json("{}")).await
    }

    /// With a certificate that nobody vouches for, which comes with it as PEM.
    pub async fn self_signed(name: &str, at: [u8; 4]) -> (Self, String) {
        let own = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
        let tls = acceptor(own.cert.der().clone(), key);
        let server = Self::serve(at, Some(tls), Answer::json("{}")).await;
        (server, own.cert.pem())
    }

    /// Without TLS.
    pub async fn plain(at: [u8; 4]) -> Self {
        Self::serve(at, None, Answer::json("{}")).await
    }

    async fn serve(at: [u8; 4], tls: Option<TlsAcceptor>, answer: Answer) -> Self {
        let listener = TcpListener::bind((std::net::Ipv4Addr::from(at), 0))
            .await
            .expect("Linux has all of 127.0.0.0/8 on loopback");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Seen::default());
        let mut task = JoinSet::new();
        let shared = Arc::clone(&seen);
        task.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (shared, answer, tls) = (Arc::clone(&shared), answer.clone(), tls.clone());
                open.spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                talk(stream, &answer, &shared).await;
                            }
                        }
                        None => talk(stream, &answer, &shared).await,
                    }
                });
            }
        });
        Self {
            address,
            seen,
            _task: task,
        }
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// How many requests were sent.
    pub fn requests(&self) -> usize {
        self.seen
            .requests
            .lock()
            .expect("no test panics here")
            .len()
    }

    /// The newest request.
    pub fn last_request(&self) -> String {
        let requests = self.seen.requests.lock().expect("no test panics here");
        requests.last().expect("a request").clone()
    }
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &Answer, seen: &Seen) {
    let mut asked = Vec::new();
    let mut byte = [0];
    while !asked.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => asked.push(byte[0]),
            _ => return,
        }
    }
    if asked.starts_with(b"GET ") {
        let asked = String::from_utf8_lossy(&asked).into_owned();
        seen.requests
            .lock()
            .expect("no test panics here")
            .push(asked);
    }
    let mut alive = stream.write_all(answer.head.as_bytes()).await.is_ok();
    alive &= stream.flush().await.is_ok();
    while let Some(refrain) = answer.refrain.filter(|_| alive) {
        alive = stream
            .write_all(refrain.repeat(64).as_bytes())
            .await
            .is_ok();
    }
    if answer.stays {
        std::future::pending::<()>().await;
    }
    let _ = stream.shutdown().await;
}

fn certified(name: &str, change: impl FnOnce(&mut CertificateParams)) -> TlsAcceptor {
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &*AUTHORITY).expect("signed");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    acceptor(certificate.der().clone(), key)
}

fn acceptor(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("key and certificate fit");
    TlsAcceptor::from(Arc::new(config))
}
