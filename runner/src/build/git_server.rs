//! For tests: repositories made with libgit2, and a loopback HTTP server that serves them with
//! Git's own `http-backend`, or misbehaves where the path asks it to.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use git2::{ObjectType, Oid, Repository, Signature, Time};

/// A bare repository and the commits put into it.
pub struct TestRepository {
    pub repository: Repository,
}

/// One entry of a hand-made tree.
pub struct Entry<'a> {
    pub mode: &'a str,
    pub name: &'a [u8],
    pub id: Oid,
}

impl TestRepository {
    pub fn new(path: &Path) -> Self {
        let repository = Repository::init_bare(path).expect("a repository");
        repository.set_head("refs/heads/main").expect("a head");
        Self { repository }
    }

    pub fn blob(&self, contents: &[u8]) -> Oid {
        self.repository.blob(contents).expect("a blob")
    }

    /// Writes a tree object byte by byte, also such that Git would never write.
    pub fn raw_tree(&self, entries: &[Entry<'_>]) -> Oid {
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.extend_from_slice(entry.mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(entry.name);
            bytes.push(0);
            bytes.extend_from_slice(entry.id.as_bytes());
        }
        let odb = self.repository.odb().expect("objects");
        odb.write(ObjectType::Tree, &bytes).expect("a tree")
    }

    /// Commits files to a branch, on top of what it has.
    pub fn commit(&self, branch: &str, message: &str, files: &[(&str, &str)]) -> Oid {
        let mut builder = git2::build::TreeUpdateBuilder::new();
        for (name, contents) in files {
            builder.upsert(*name, self.blob(contents.as_bytes()), git2::FileMode::Blob);
        }
        let empty = self.raw_tree(&[]);
        let base = self.repository.find_tree(empty).expect("the empty tree");
        let tree = builder
            .create_updated(&self.repository, &base)
            .expect("a tree");
        self.commit_tree(branch, message, tree)
    }

    pub fn commit_tree(&self, branch: &str, message: &str, tree: Oid) -> Oid {
        let who = Signature::new(
            "Ada Lovelace",
            "ada@example.com",
            &Time::new(1_700_000_000, 0),
        )
        .expect("a name");
        let name = format!("refs/heads/{branch}");
        let parent = self
            .repository
            .find_reference(&name)
            .ok()
            .and_then(|found| found.peel_to_commit().ok());
        let parents: Vec<&git2::Commit<'_>> = parent.iter().collect();
        let tree = self.repository.find_tree(tree).expect("the tree");
        self.repository
            .commit(Some(&name), &who, &who, message, &tree, &parents)
            .expect("a commit")
    }
}

/// Serves `root`'s repositories below `/repos/` until the process ends.
pub struct GitServer {
    pub address: SocketAddr,
    /// Requests so far.
    pub requests: Arc<AtomicUsize>,
}

impl GitServer {
    pub fn start(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let root = root.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let root = root.clone();
                std::thread::spawn(move || answer(stream, &root, address));
            }
        });
        Self { address, requests }
    }

    pub fn url(&self, path: &str) -> url::Url {
        format!("http://{}/{path}", self.address)
            .parse()
            .expect("an address")
    }
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let method = words.next()?.to_owned();
    let target = words.next()?.to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body,
    })
}

const LISTING: &str = "application/x-git-upload-pack-advertisement";

fn answer(mut stream: TcpStream, root: &Path, address: SocketAddr) {
    let Some(request) = read(&stream) else { return };
    let simple = |status: &str, headers: &str| {
        format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n")
    };
    let first = request.path.split('/').nth(1).unwrap_or_default();
    let text = match first {
        "repos" => return backend(stream, root, &request),
        "moved" => {
            let to =
                request
                    .path
                    .replacen("/moved/", "/repos/", 1)
                    .replacen("/info", ".git/info", 1);
            simple(
                "301 Moved Permanently",
                &format!("Location: {to}?{}\r\n", request.query),
            )
        }
        "loop" => simple(
            "302 Found",
            &format!("Location: {}?{}\r\n", request.path, request.query),
        ),
        "away" => {
            let port = address.port().wrapping_add(1);
            simple(
                "302 Found",
                &format!(
                    "Location: http://127.0.0.1:{port}{}?{}\r\n",
                    request.path, request.query
                ),
            )
        }
        "private" => simple("401 Unauthorized", "WWW-Authenticate: Basic\r\n"),
        "broken" => simple("500 Internal Server Error", ""),
        "page" => simple("200 OK", "Content-Type: text/html\r\n"),
        "endless" | "drip" => {
            let _ = stream
                .write_all(simple("200 OK", &format!("Content-Type: {LISTING}\r\n")).as_bytes());
            // A pkt-line of the largest size, over and over, of a listing that never ends.
            let filler = format!(
                "fff0{} refs/heads/{}\n",
                "a".repeat(40),
                "b".repeat(0xfff0 - 4 - 41 - 12)
            );
            while first == "endless" && stream.write_all(filler.as_bytes()).is_ok() {}
            // Silent for as long as the client stays.
            let _ = stream.read(&mut [0]);
            return;
        }
        _ => simple("404 Not Found", ""),
    };
    let _ = stream.write_all(text.as_bytes());
}

/// Runs `git http-backend` as a CGI program (git-http-backend(1)).
fn backend(mut stream: TcpStream, root: &Path, request: &Request) {
    let path = request.path.strip_prefix("/repos").expect("the prefix");
    let header = |name: &str| request.headers.get(name).map_or("", String::as_str);
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", &request.query)
        .env("REQUEST_METHOD", &request.method)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", header("content-length"))
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("git is needed for this test: apt-get install git");
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(&request.body).expect("git reads");
    drop(stdin);
    let output = child.wait_with_output().expect("git ends");
    let end = output
        .stdout
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("git-http-backend answers with headers: apt-get install git");
    let head = String::from_utf8_lossy(&output.stdout[..end]).into_owned();
    let status = head
        .lines()
        .find_map(|line| line.strip_prefix("Status: "))
        .unwrap_or("200 OK");
    let kept: Vec<&str> = head
        .lines()
        .filter(|line| !line.starts_with("Status:"))
        .collect();
    let headers = kept.join("\r\n");
    let _ = stream.write_all(
        format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n\r\n").as_bytes(),
    );
    let _ = stream.write_all(&output.stdout[end + 4..]);
}

/// Lines that were said for the log.
pub fn log() -> (super::fetch::Say, mpsc::Receiver<String>) {
    let (sender, receiver) = mpsc::channel();
    let say = Arc::new(move |line| {
        let _ = sender.send(line);
    });
    (say, receiver)
}

/// Where a test's repositories and store are.
pub fn places() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let repositories = directory.path().join("repositories");
    let store = directory.path().join("store");
    std::fs::create_dir(&repositories).expect("a directory");
    (directory, repositories, store)
}
