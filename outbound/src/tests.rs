//! What strangers try: every case is refused, and none of them reaches a listener that stands
//! where it may not. 127.0.0.2 plays the public internet here, 127.0.0.1 our own network.

mod server;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::server::{Answer, Server};
use crate::resolver::Found;
use crate::{Fault, Fetcher, Lookup, Options, PinnedHost, Reach};

/// The name whose certificate the servers have.
const HOST: &str = "client.example";
const URL: &str = "https://client.example/metadata.json";
const PUBLIC: [u8; 4] = [127, 0, 0, 2];
const PRIVATE: [u8; 4] = [127, 0, 0, 1];

/// For servers that answer, on a machine with much else to do.
const PATIENT: Duration = Duration::from_secs(30);
/// For those that do not.
const SHORT: Duration = Duration::from_millis(500);

/// Gives each name its answers one after the other, the last one for ever.
#[derive(Default)]
struct Names {
    answers: BTreeMap<String, Mutex<Vec<Vec<SocketAddr>>>>,
    asked: AtomicUsize,
}

impl Names {
    fn of(host: &str, answers: Vec<Vec<SocketAddr>>) -> Arc<Self> {
        let answers = BTreeMap::from([(host.to_owned(), Mutex::new(answers))]);
        Arc::new(Self {
            answers,
            asked: AtomicUsize::new(0),
        })
    }
}

impl Lookup for Names {
    fn lookup(&self, host: String) -> Found {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.get(&host).map(|answers| {
            let mut answers = answers.lock().expect("no test panics here");
            if answers.len() > 1 {
                answers.remove(0)
            } else {
                answers[0].clone()
            }
        });
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("no such name")) })
    }
}

fn fetcher(names: &Arc<Names>) -> Fetcher {
    fetcher_with(names, &[], PATIENT)
}

fn fetcher_with(names: &Arc<Names>, pinned: &[PinnedHost], total: Duration) -> Fetcher {
    Fetcher::new(Options {
        reach: Reach::new(&["127.0.0.2".parse().expect("an address")]),
        pinned: pinned.to_vec(),
        trusted: Some(server::authority().into_bytes()),
        lookup: Arc::clone(names) as Arc<dyn Lookup>,
        total,
    })
    .expect("a fetcher")
}

/// URLs that are refused before any name is looked up.
const URLS: &[&str] = &[
    // Not https on 443.
    "",
    "client.example/metadata.json",
    "//client.example/metadata.json",
    "http://client.example/metadata.json",
    "http://client.example:443/metadata.json",
    "HTTPS://client.example/metadata.json",
    "https:/client.example/metadata.json",
    "https:client.example/metadata.json",
    "https:///client.example/metadata.json",
    "https:\\\\client.example\\metadata.json",
    "https://client.example:443/metadata.json",
    "https://client.example:80/metadata.json",
    "https://client.example:8443/metadata.json",
    "https://client.example:0/metadata.json",
    "https://client.example:/metadata.json",
    "https://client.example:65536/metadata.json",
    "file:///etc/passwd",
    "ftp://client.example/metadata.json",
    "gopher://client.example/metadata.json",
    "data:application/json,{}",
    "javascript:alert(1)",
    "ws://client.example/metadata.json",
    // Someone else in front of the @, or hidden behind it.
    "https://user@client.example/metadata.json",
    "https://user:password@client.example/metadata.json",
    "https://:@client.example/metadata.json",
    "https://@client.example/metadata.json",
    "https://client.example@127.0.0.1/metadata.json",
    "https://client.example\\@127.0.0.1/metadata.json",
    "https://127.0.0.1\\@client.example/metadata.json",
    "https://client.example#@127.0.0.1/metadata.json",
    "https://client.example/metadata.json#",
    "https://client.example/metadata.json#fragment",
    // Addresses in every spelling.
    "https://127.0.0.1/metadata.json",
    "https://127.0.0.1./metadata.json",
    "https://127.1/metadata.json",
    "https://127.0.1/metadata.json",
    "https://2130706433/metadata.json",
    "https://0x7f000001/metadata.json",
    "https://0x7f.0.0.1/metadata.json",
    "https://0x7f.1/metadata.json",
    "https://017700000001/metadata.json",
    "https://0177.0.0.1/metadata.json",
    "https://0177.1/metadata.json",
    "https://127.0.0.0x1/metadata.json",
    "https://%31%32%37.0.0.1/metadata.json",
    "https://\u{ff11}\u{ff12}\u{ff17}.0.0.1/metadata.json",
    "https://\u{2460}\u{2461}\u{2466}.0.0.1/metadata.json",
    "https://127\u{3002}0\u{3002}0\u{3002}1/metadata.json",
    "https://0/metadata.json",
    "https://0.0.0.0/metadata.json",
    "https://10.0.0.1/metadata.json",
    "https://169.254.169.254/latest/meta-data",
    "https://2852039166/latest/meta-data",
    "https://0xa9fea9fe/latest/meta-data",
    "https://192.168.0.1/metadata.json",
    "https://93.184.216.34/metadata.json",
    "https://999.1.1.1/metadata.json",
    "https://1.2.3.4.5/metadata.json",
    "https://[::1]/metadata.json",
    "https://[::]/metadata.json",
    "https://[0:0:0:0:0:0:0:1]/metadata.json",
    "https://[::ffff:127.0.0.1]/metadata.json",
    "https://[::ffff:7f00:1]/metadata.json",
    "https://[::127.0.0.1]/metadata.json",
    "https://[64:ff9b::7f00:1]/metadata.json",
    "https://[2002:7f00:1::]/metadata.json",
    "https://[fe80::1]/metadata.json",
    "https://[fe80::1%25eth0]/metadata.json",
    "https://[fd00::1]/metadata.json",
    "https://[2606:50c0:8000::154]/metadata.json",
    // Names of our own network, and names in disguise.
    "https://localhost/metadata.json",
    "https://control-plane/metadata.json",
    "https://metadata/computeMetadata/v1/",
    "https://client.example./metadata.json",
    "https://client..example/metadata.json",
    "https://.client.example/metadata.json",
    "https://Client.Example/metadata.json",
    "https://client.ex%61mple/metadata.json",
    "https://cl\u{ad}ient.example/metadata.json",
    "https://client.\u{ff45}xample/metadata.json",
    "https://cli\tent.example/metadata.json",
    "https://client.example\n/metadata.json",
    " https://client.example/metadata.json",
    "https://client.example/metadata.json ",
    "https://client.example /metadata.json",
    "https://client*.example/metadata.json",
    "https://client.example,other.example/metadata.json",
    // One document, one spelling.
    "https://client.example",
    "https://client.example?metadata.json",
    "https://client.example/./metadata.json",
    "https://client.example/a/../metadata.json",
    "https://client.example/a/%2e%2e/metadata.json",
    "https://client.example/%2E/metadata.json",
    "https://client.example/..",
    "https://client.example\\metadata.json",
    "https://client.example/a\\..\\metadata.json",
    "https://client.example/meta data.json",
    "https://client.example/m\u{e9}tadata.json",
    "https://client.example/\r\nHost:127.0.0.1",
    "https://client.example/\0",
];

/// Addresses that a name may resolve to and that are not public.
const ADDRESSES: &[&str] = &[
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.0.0.53",
    "127.255.255.255",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.17.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.170",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.175.48.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::a00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:7f00:1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "64:ff9b:1:ffff::a00:1",
    "100::1",
    "100:0:0:1::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::",
    "2002:c0a8:1::",
    "2606:50c0::5efe:127.0.0.1",
    "2606:50c0::200:5efe:10.0.0.1",
    "2620:4f:8000::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::5efe:127.0.0.1",
    "fec0::1",
    "feff::1",
    "ff01::1",
    "ff02::1",
    "ff0e::1",
];

#[tokio::test]
async fn no_url_in_disguise_is_fetched() {
    let inside = Server::start(PRIVATE, Answer::json("{}")).await;
    // Whatever name came through would lead inside.
    let names = Names::of(HOST, vec![vec![inside.address]]);
    let fetcher = fetcher(&names);
    for url in URLS {
        let fault = fetcher.json(url).await.expect_err(url);
        assert!(matches!(fault, Fault::Url(_)), "{url:?}: {fault:?}");
        assert!(!fault.is_temporary());
    }
    let long = format!("https://client.example/{}", "a".repeat(2_000));
    assert!(matches!(fetcher.json(&long).await, Err(Fault::Url(_))));
    // With the port of the listener too.
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1"] {
        let url = format!("https://{host}:{}/", inside.address.port());
        assert!(
            matches!(fetcher.json(&url).await, Err(Fault::Url(_))),
            "{url}"
        );
    }
    assert_eq!(
        names.asked.load(Ordering::SeqCst),
        0,
        "a name was looked up"
    );
    assert_eq!(inside.connections(), 0);
    assert!(URLS.len() + ADDRESSES.len() >= 80);
}

#[tokio::test]
async fn no_answer_of_a_resolver_leads_inside() {
    let inside = Server::start(PRIVATE, Answer::json("{}")).await;
    let outside = Server::start(PUBLIC, Answer::json("{}")).await;
    let port = inside.address.port();
    for text in ADDRESSES {
        let bad = SocketAddr::new(text.parse().expect(text), port);
        // Alone, before and behind a public one.
        for answer in [
            vec![bad],
            vec![bad, outside.address],
            vec![outside.address, bad],
        ] {
            let names = Names::of(HOST, vec![answer]);
            let result = fetcher(&names).json(URL).await;
            assert_eq!(result, Err(Fault::Forbidden), "{text}");
        }
    }
    assert_eq!(inside.connections(), 0);
    assert_eq!(outside.connections(), 0, "mixed answers are refused whole");
    let told = Fault::Forbidden.to_string();
    assert!(!told.contains("127.") && !told.contains("10."), "{told}");
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_refused_then() {
    let inside = Server::start(PRIVATE, Answer::json(r#"{"inside": true}"#)).await;
    let outside = Server::start(PUBLIC, Answer::json(r#"{"outside": true}"#)).await;
    let names = Names::of(HOST, vec![vec![outside.address], vec![inside.address]]);
    let fetcher = fetcher(&names);
    let first = fetcher.json(URL).await.expect("public at first");
    assert_eq!(first.body["outside"], true);
    assert_eq!(
        names.asked.load(Ordering::SeqCst),
        1,
        "what was checked is what was connected to"
    );
    assert_eq!(fetcher.json(URL).await, Err(Fault::Forbidden));
    let six = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), inside.address.port());
    let names = Names::of(
        HOST,
        vec![vec![outside.address], vec![outside.address, six]],
    );
    let fetcher = self::fetcher(&names);
    assert!(fetcher.json(URL).await.is_ok());
    assert_eq!(fetcher.json(URL).await, Err(Fault::Forbidden));
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn hostile_answers_are_refused() {
    let inside = Server::start(PRIVATE, Answer::json("{}")).await;
    let port = inside.address.port();
    let redirect = |status: u16, to: &str| (Answer::redirect(status, to), Fault::Status(status));
    let status = |status: u16| (Answer::status(status), Fault::Status(status));
    let typed = |media: &str| (Answer::typed(media, "{}"), Fault::WrongType);
    let cases = [
        redirect(301, &format!("https://127.0.0.1:{port}/")),
        redirect(302, &format!("http://127.0.0.1:{port}/")),
        redirect(303, "https://client.example/other.json"),
        redirect(307, "/other.json"),
        redirect(308, "https://169.254.169.254/"),
        status(201),
        status(204),
        status(206),
        status(304),
        status(400),
        status(401),
        status(403),
        status(404),
        status(410),
        status(429),
        status(500),
        status(503),
        typed("text/html"),
        typed("text/plain"),
        typed("text/json"),
        typed("application/octet-stream"),
        typed("application/jsonp"),
        typed("application/javascript"),
        typed("image/svg+xml"),
        typed(""),
        (Answer::json(""), Fault::NotJson),
        (Answer::json("{"), Fault::NotJson),
        (Answer::json("{}{}"), Fault::NotJson),
        (Answer::json("\u{1f}\u{8b}"), Fault::NotJson),
        (Answer::json(&"[".repeat(5_000)), Fault::NotJson),
        (Answer::json(&" ".repeat(65_537)), Fault::TooLarge),
        (Answer::endless(), Fault::TooLarge),
        (Answer::endless_headers(), Fault::Unreachable),
        (Answer::chunked_endless(), Fault::TooLarge),
        (Answer::silent(), Fault::TimedOut),
        (Answer::slow_body(), Fault::TimedOut),
        (Answer::cut_off(), Fault::Unreachable),
        (Answer::raw("SSH-2.0-OpenSSH\r\n\r\n"), Fault::Unreachable),
    ];
    for (answer, fault) in cases {
        let name = format!("{answer:?}");
        let outside = Server::start(PUBLIC, answer).await;
        let names = Names::of(HOST, vec![vec![outside.address]]);
        let silent = fault == Fault::TimedOut;
        let fetcher = fetcher_with(&names, &[], if silent { SHORT } else { PATIENT });
        assert_eq!(fetcher.json(URL).await, Err(fault), "{name}");
        assert!(silent || outside.connections() == 1, "{name}");
    }
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn only_a_trusted_certificate_of_this_name_will_do() {
    for server in [
        Server::with_certificate_for("other.example", PUBLIC).await,
        Server::self_signed(HOST, PUBLIC).await.0,
        Server::expired(HOST, PUBLIC).await,
    ] {
        let names = Names::of(HOST, vec![vec![server.address]]);
        assert_eq!(fetcher(&names).json(URL).await, Err(Fault::Unreachable));
        assert_eq!(server.requests(), 0, "no request was sent");
    }
    let plain = Server::plain(PUBLIC).await;
    let names = Names::of(HOST, vec![vec![plain.address]]);
    let fault = fetcher_with(&names, &[], SHORT).json(URL).await;
    assert_eq!(fault, Err(Fault::TimedOut), "it waits for a request");
    assert_eq!(plain.requests(), 0);
    let nobody = SocketAddr::from((PUBLIC, 1));
    let names = Names::of(HOST, vec![vec![nobody]]);
    assert_eq!(fetcher(&names).json(URL).await, Err(Fault::Unreachable));
    let names = Names::of("other.example", vec![vec![nobody]]);
    assert_eq!(fetcher(&names).json(URL).await, Err(Fault::Unreachable));
    assert!(Fault::Unreachable.is_temporary());
}

#[tokio::test]
async fn a_document_arrives_with_its_freshness() {
    let answer = Answer::raw(
        "HTTP/1.1 200 OK\r\ncontent-type: application/client-metadata+json; charset=utf-8\r\n\
         cache-control: public, max-age=900\r\ncontent-length: 7\r\n\r\n{\"a\":1}",
    );
    let outside = Server::start(PUBLIC, answer).await;
    let names = Names::of(HOST, vec![vec![outside.address]]);
    let document = fetcher(&names).json(URL).await.expect("a document");
    assert_eq!(document.body["a"], 1);
    assert_eq!(document.fresh_for, Some(Duration::from_mins(15)));
    let asked = outside.last_request();
    assert!(
        asked.starts_with("GET /metadata.json HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(asked.contains("host: client.example\r\n"), "{asked}");
    assert!(!asked.contains("cookie") && !asked.contains("referer"));
}

#[tokio::test]
async fn the_operator_can_put_a_name_somewhere() {
    let inside = Server::start(PRIVATE, Answer::json(r#"{"inner": true}"#)).await;
    let names = Names::of("elsewhere.example", vec![vec![inside.address]]);
    let pinned = [PinnedHost {
        name: HOST.to_owned(),
        address: inside.address,
    }];
    let fetcher = fetcher_with(&names, &pinned, PATIENT);
    assert_eq!(fetcher.json(URL).await.expect("pinned").body["inner"], true);
    assert_eq!(names.asked.load(Ordering::SeqCst), 0);
    // Nothing else is let in by it.
    let other = "https://elsewhere.example/metadata.json";
    assert_eq!(fetcher.json(other).await, Err(Fault::Forbidden));
    let port = format!("https://client.example:{}/", inside.address.port());
    assert!(matches!(fetcher.json(&port).await, Err(Fault::Url(_))));
    assert_eq!(inside.connections(), 1);
}

#[tokio::test]
async fn the_operator_can_trust_one_certificate() {
    let (server, pem) = Server::self_signed(HOST, PUBLIC).await;
    let fetcher = Fetcher::new(Options {
        pinned: vec![PinnedHost {
            name: HOST.to_owned(),
            address: server.address,
        }],
        trusted: Some(pem.into_bytes()),
        ..Options::default()
    });
    let document = fetcher.expect("a fetcher").json(URL).await;
    assert!(document.is_ok(), "{document:?}");
}

#[test]
fn broken_certificates_are_said_at_the_start() {
    for pem in [&b"not a certificate"[..], b""] {
        let options = Options {
            trusted: Some(pem.to_vec()),
            ..Options::default()
        };
        assert!(Fetcher::new(options).is_err());
    }
}

#[test]
fn the_stand_ins_are_what_they_say() {
    assert!(!crate::is_global(IpAddr::from(PUBLIC)));
    assert!(!crate::is_global(IpAddr::from(PRIVATE)));
}
