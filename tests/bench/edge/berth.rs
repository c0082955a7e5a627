//! The edge with two projects from saved routes: one whose calls are counted, one whose streams stay
//! open.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edge::protocol::{Callers, HostHeader, Policy, Route, RouteSnapshot, Upstream, User};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tests::wait;
use uuid::Uuid;

use crate::process::{Server, free_port};

const ISSUER: &str = "http://dashboard.test";
const USER: Uuid = Uuid::from_u128(1);
const PROJECT: Uuid = Uuid::from_u128(2);
const GRANT: Uuid = Uuid::from_u128(3);

/// Starts it before the two upstreams; the first one takes its reports as well.
pub fn start(directory: &Path, calls: u16, events: u16) -> Result<Server> {
    let data = directory.join("berth");
    std::fs::create_dir_all(data.join("edge"))?;
    let key = Key::new()?;
    let routes = RouteSnapshot {
        version: 1,
        issuer: ISSUER.to_owned(),
        keys: key.public(),
        revoked_grants: Vec::new(),
        users: vec![User {
            id: USER,
            email: Some("ada@example.com".to_owned()),
            organization: None,
        }],
        api_tokens: Vec::new(),
        routes: vec![
            route("calls", platform(), PROJECT, calls),
            route("events", Policy::Public, Uuid::from_u128(4), events),
        ],
    };
    std::fs::write(data.join("edge/routes.json"), serde_json::to_vec(&routes)?)?;
    let token = data.join("token");
    std::fs::write(&token, "bench")?;
    let port = free_port()?;
    let binary = tests::setting("TEST_BERTH").map_or_else(
        || tests::root().join("target/release/berth"),
        std::path::PathBuf::from,
    );
    let child = Command::new(&binary)
        .args(["edge", "--listen", &format!("127.0.0.1:{port}")])
        .args(["--url", ISSUER, "--apps-domain", "apps.test"])
        .args(["--control-url", &format!("http://127.0.0.1:{calls}")])
        .arg("--data")
        .arg(&data)
        .env("BERTH_EDGE_TOKEN_FILE", &token)
        .env("BERTH_LOG", "warn")
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| {
            format!(
                "{} is missing; build it with `cargo build --release --workspace --bin berth`",
                binary.display()
            )
        })?;
    wait::until("the edge to listen", Duration::from_secs(10), || {
        Ok(std::net::TcpStream::connect(("127.0.0.1", port))
            .ok()
            .map(|_| ()))
    })?;
    Ok(Server {
        child,
        port,
        host: "calls.apps.test".to_owned(),
        events_host: "events.apps.test".to_owned(),
        token: Some(key.token()?),
    })
}

fn platform() -> Policy {
    Policy::Platform {
        scope: "mcp".to_owned(),
        callers: Callers::Only(vec![USER]),
        public_paths: Vec::new(),
    }
}

fn resource(name: &str) -> String {
    format!("http://{name}.apps.test/mcp")
}

fn route(name: &str, policy: Policy, project: Uuid, port: u16) -> Route {
    Route {
        host: format!("{name}.apps.test"),
        key_host: format!("{name}--key.apps.test"),
        project,
        preview_of: None,
        organization: Uuid::from_u128(6),
        project_name: name.to_owned(),
        resource: resource(name),
        policy,
        allowed_origins: Vec::new(),
        live: Some(Upstream {
            deployment: Uuid::from_u128(5),
            commit: "bench".to_owned(),
            address: format!("127.0.0.1:{port}"),
            host_header: HostHeader::Public,
        }),
        starts: false,
        draining: Vec::new(),
    }
}

/// The authorization server's key.
struct Key {
    private: EncodingKey,
    public: Vec<u8>,
}

impl Key {
    fn new() -> Result<Self> {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())
            .map_err(|_| anyhow!("no key"))?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref())
            .map_err(|_| anyhow!("an unreadable key"))?;
        Ok(Self {
            private: EncodingKey::from_ec_der(document.as_ref()),
            public: pair.public_key().as_ref().to_vec(),
        })
    }

    fn public(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let (x, y) = self.public[1..].split_at(32);
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "bench",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]})
    }

    /// An access token of a day.
    fn token(&self) -> Result<String> {
        let now = jsonwebtoken::get_current_timestamp();
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some("bench".to_owned());
        let claims = json!({
            "iss": ISSUER, "aud": resource("calls"), "sub": USER, "client_id": "bench", "scope": "mcp",
            "gid": GRANT, "pid": PROJECT, "jti": "1", "iat": now, "exp": now + 86_400,
        });
        Ok(jsonwebtoken::encode(&header, &claims, &self.private)?)
    }
}
