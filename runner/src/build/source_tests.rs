//! Sources end to end: real repositories, over Git's smart protocol and from the disk, and
//! uploads, honest and hostile.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};

use super::super::git_server::{Entry, GitServer, TestRepository, log, places};
use super::*;

const BLOB: &str = "100644";

/// Uploads in memory.
#[derive(Default)]
struct Uploads(std::collections::HashMap<String, Vec<u8>>);

impl UploadSource for Uploads {
    fn open<'a>(&'a self, sha256: &'a str) -> BoxFuture<'a, anyhow::Result<Option<UploadStream>>> {
        let found = self.0.get(sha256).map(|bytes| {
            let chunks: Vec<io::Result<Bytes>> = bytes
                .chunks(1_000)
                .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
                .collect();
            futures_util::stream::iter(chunks).boxed()
        });
        async move { Ok(found) }.boxed()
    }
}

impl Uploads {
    fn add(&mut self, bytes: Vec<u8>) -> Source {
        let sha256 = hex(digest(&SHA256, &bytes).as_ref());
        self.0.insert(sha256.clone(), bytes);
        Source::Upload { sha256 }
    }
}

pub(super) fn store(root: &Path) -> SourceStore {
    let settings = SourceSettings {
        allow_file: true,
        allow_private_addresses: vec!["127.0.0.1".parse().unwrap()],
    };
    SourceStore::new(root.to_owned(), settings).unwrap()
}

pub(super) fn git(url: &Url, reference: Option<&str>, commit: Option<&str>) -> fetch::Request {
    fetch::Request {
        url: url.clone(),
        reference: reference.map(str::to_owned),
        commit: commit.map(str::to_owned),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Over HTTP, past the check of the scheme only.
pub(super) async fn over_http(
    store: &SourceStore,
    request: fetch::Request,
) -> Result<SourceTree, Diagnosis> {
    store.obtain_git(request, None, log().0, soon()).await
}

pub(super) async fn from_file(
    store: &SourceStore,
    path: &Path,
    reference: Option<&str>,
) -> Result<SourceTree, Diagnosis> {
    let source = Source::Git {
        url: Url::from_file_path(path).unwrap().to_string(),
        reference: reference.map(str::to_owned),
        commit: None,
        repository: None,
    };
    store
        .obtain_saying(&source, &Uploads::default(), log().0, soon())
        .await
}

pub(super) fn text(tree: &SourceTree, name: &str) -> String {
    fs::read_to_string(tree.path.join(name)).unwrap()
}

fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut encoder, tar).unwrap();
    encoder.finish().unwrap()
}

fn packed(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = archive::Writer::new(Vec::new());
    for (name, contents) in files {
        writer.file(name, false, contents.as_bytes()).unwrap();
    }
    gzip(&writer.finish().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn smart_http_fetches_branches_tags_and_commits() {
    let (_guard, repositories, root) = places();
    let repository = TestRepository::new(&repositories.join("a.git"));
    let first = repository.commit(
        "main",
        "First\n\nbody",
        &[("main.py", "one"), ("pkg/mod.py", "x")],
    );
    let second = repository.commit("main", "Second", &[("main.py", "two")]);
    let third = repository.commit("main", "Third", &[("main.py", "three")]);
    let other = repository.commit("feature/x", "Other", &[("main.py", "other")]);
    let target = repository.repository.find_object(second, None).unwrap();
    let who = git2::Signature::now("T", "t@example.com").unwrap();
    repository
        .repository
        .tag("v1", &target, &who, "annotated", false)
        .unwrap();
    let server = GitServer::start(&repositories);
    let store = store(&root);
    let url = server.url("repos/a.git");

    let head = over_http(&store, git(&url, None, None)).await.unwrap();
    assert_eq!(text(&head, "main.py"), "three");
    assert_eq!(head.commit.id, third.to_string());
    assert_eq!(head.commit.subject.as_deref(), Some("Third"));
    assert_eq!(head.commit.author.as_deref(), Some("Ada Lovelace"));
    assert!(!head.path.join(".git").exists());

    let branch = over_http(&store, git(&url, Some("feature/x"), None))
        .await
        .unwrap();
    assert_eq!(
        (branch.commit.id, text(&head, "main.py").as_str()),
        (other.to_string(), "three")
    );
    let tag = over_http(&store, git(&url, Some("v1"), None))
        .await
        .unwrap();
    assert_eq!(tag.commit.id, second.to_string());
    let full = over_http(&store, git(&url, Some("refs/heads/feature/x"), None))
        .await
        .unwrap();
    assert_eq!(full.commit.id, other.to_string());
    // Not at a tip any more: asked for by its id, or found in the branch's history.
    let exact = over_http(&store, git(&url, Some("main"), Some(&first.to_string())))
        .await
        .unwrap();
    assert_eq!(
        (text(&exact, "main.py"), text(&exact, "pkg/mod.py")),
        ("one".to_owned(), "x".to_owned())
    );
    let as_reference = over_http(&store, git(&url, Some(&first.to_string()), None))
        .await
        .unwrap();
    assert_eq!(as_reference.commit.id, first.to_string());

    // Known commits need no network.
    let before = server.requests.load(Ordering::SeqCst);
    let again = over_http(&store, git(&url, None, Some(&first.to_string())))
        .await
        .unwrap();
    assert_eq!(again, exact);
    assert_eq!(server.requests.load(Ordering::SeqCst), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn exact_commits_are_fetched_shallow_where_the_host_allows() {
    let (_guard, repositories, root) = places();
    let repository = TestRepository::new(&repositories.join("a.git"));
    let first = repository.commit("main", "First", &[("main.py", "one")]);
    repository.commit("main", "Second", &[("main.py", "two")]);
    let mut config = repository.repository.config().unwrap();
    config
        .set_bool("uploadpack.allowReachableSHA1InWant", true)
        .unwrap();
    config
        .set_bool("uploadpack.allowAnySHA1InWant", true)
        .unwrap();
    let server = GitServer::start(&repositories);
    let tree = over_http(
        &store(&root),
        git(&server.url("repos/a.git"), None, Some(&first.to_string())),
    )
    .await
    .unwrap();
    assert_eq!(text(&tree, "main.py"), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_stay_within_the_host() {
    let (_guard, repositories, root) = places();
    TestRepository::new(&repositories.join("a.git")).commit("main", "First", &[("main.py", "one")]);
    let server = GitServer::start(&repositories);
    let store = store(&root);
    let tree = over_http(&store, git(&server.url("moved/a"), None, None))
        .await
        .unwrap();
    assert_eq!(text(&tree, "main.py"), "one");
    for path in ["away/a", "loop/a"] {
        let found = over_http(&store, git(&server.url(path), None, None))
            .await
            .unwrap_err();
        assert_eq!(found.code, "repository_unreachable");
        assert!(found.cause.contains("redirects to"), "{}", found.cause);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_fail_are_told_apart() {
    let (_guard, repositories, root) = places();
    let repository = TestRepository::new(&repositories.join("a.git"));
    repository.commit("main", "First", &[("main.py", "one")]);
    TestRepository::new(&repositories.join("empty.git"));
    let server = GitServer::start(&repositories);
    let store = store(&root);
    for (path, reference, commit, code) in [
        ("repos/none.git", None, None, "repository_not_found"),
        ("private/a", None, None, "repository_not_found"),
        ("page/a", None, None, "repository_not_found"),
        ("broken/a", None, None, "repository_unreachable"),
        ("repos/empty.git", None, None, "repository_empty"),
        ("repos/a.git", Some("mian"), None, "ref_not_found"),
        ("repos/a.git", Some("a b"), None, "ref_not_found"),
        (
            "repos/a.git",
            Some("--upload-pack=touch x"),
            None,
            "ref_not_found",
        ),
        ("repos/a.git", Some("$(id)"), None, "ref_not_found"),
        (
            "repos/a.git",
            None,
            Some("0123456789012345678901234567890123456789"),
            "commit_not_found",
        ),
        ("repos/a.git", None, Some("deadbeef"), "commit_not_found"),
        ("endless/a", None, None, "source_too_large"),
    ] {
        let found = over_http(&store, git(&server.url(path), reference, commit))
            .await
            .unwrap_err();
        assert_eq!(found.code, code, "{path} {reference:?}: {found:?}");
    }
    let found = over_http(&store, git(&server.url("repos/a.git"), Some("mian"), None))
        .await
        .unwrap_err();
    assert_eq!(
        found.cause,
        format!(
            "{} has no branch or tag named mian.",
            server.url("repos/a.git")
        )
    );
    assert_eq!(found.fix, "Use one of those it has (main), or push it.");

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url: Url = format!("http://{}/a", nobody.local_addr().unwrap())
        .parse()
        .unwrap();
    drop(nobody);
    let found = over_http(&store, git(&url, None, None)).await.unwrap_err();
    assert_eq!(found.code, "repository_unreachable");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_hosts_end_with_the_deadline_and_dropped_fetches_stop() {
    let (_guard, repositories, root) = places();
    let server = GitServer::start(&repositories);
    let store = store(&root);
    let deadline = Instant::now() + Duration::from_millis(300);
    let request = git(&server.url("drip/a"), None, None);
    let found = store
        .obtain_git(request.clone(), None, log().0, deadline)
        .await
        .unwrap_err();
    assert_eq!(found.code, "fetch_timeout");
    assert!(deadline.elapsed() < Duration::from_secs(5));
    let dropped = tokio::time::timeout(
        Duration::from_millis(200),
        store.obtain_git(request, None, log().0, soon()),
    );
    assert!(dropped.await.is_err());
    // What was being written goes away once the blocked thread notices.
    let gone = async {
        while fs::read_dir(&root).unwrap().next().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("the fetch must stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_refused_unless_allowed() {
    let (_guard, repositories, root) = places();
    let server = GitServer::start(&repositories);
    let store = SourceStore::new(root, SourceSettings::default()).unwrap();
    let port = server.address.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "169.254.169.254",
        "[fd00::1]",
        "10.0.0.1",
    ] {
        let url: Url = format!("https://{host}:{port}/a.git").parse().unwrap();
        let found = over_http(&store, git(&url, None, None)).await.unwrap_err();
        assert_eq!(found.code, "address_forbidden", "{host}: {found:?}");
    }
    assert_eq!(
        server.requests.load(Ordering::SeqCst),
        0,
        "nothing was connected to"
    );
}

#[tokio::test]
async fn local_repositories_are_read_in_place() {
    let (_guard, repositories, root) = places();
    let path = repositories.join("a.git");
    let repository = TestRepository::new(&path);
    let first = repository.commit("main", "First", &[("main.py", "one")]);
    repository.commit("main", "Second", &[("main.py", "two")]);
    repository.commit("dev", "Dev", &[("main.py", "dev")]);
    let hook = path.join("hooks/post-checkout");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\ntouch ran\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let store = store(&root);
    assert_eq!(
        text(&from_file(&store, &path, None).await.unwrap(), "main.py"),
        "two"
    );
    assert_eq!(
        text(
            &from_file(&store, &path, Some("dev")).await.unwrap(),
            "main.py"
        ),
        "dev"
    );
    assert_eq!(
        text(
            &from_file(&store, &path, Some(&first.to_string()))
                .await
                .unwrap(),
            "main.py"
        ),
        "one"
    );
    let missing = from_file(&store, &path, Some("nope")).await.unwrap_err();
    assert_eq!(
        (missing.code.as_str(), missing.fix.contains("dev and main")),
        ("ref_not_found", true),
        "{missing:?}"
    );
    assert_eq!(
        from_file(&store, &repositories.join("none"), None)
            .await
            .unwrap_err()
            .code,
        "repository_not_found"
    );
    let empty = repositories.join("empty");
    TestRepository::new(&empty);
    assert_eq!(
        from_file(&store, &empty, None).await.unwrap_err().code,
        "repository_empty"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_trees_are_refused() {
    let (_guard, repositories, root) = places();
    let repository = TestRepository::new(&repositories.join("h.git"));
    let blob = repository.blob(b"x");
    let target = |text: &str| repository.blob(text.as_bytes());
    let tree = |mode, name: &[u8], id| repository.raw_tree(&[Entry { mode, name, id }]);
    let inner = tree(BLOB, b"config", blob);
    let two = repository.raw_tree(&[
        Entry {
            mode: BLOB,
            name: b"a",
            id: blob,
        },
        Entry {
            mode: BLOB,
            name: b"a",
            id: blob,
        },
    ]);
    let link_then_directory = repository.raw_tree(&[
        Entry {
            mode: "120000",
            name: b"d",
            id: target("/tmp"),
        },
        Entry {
            mode: "40000",
            name: b"d",
            id: inner,
        },
    ]);
    // A tree of trees of trees: a few objects that unfold to millions of files.
    let bomb = (0..8).fold(inner, |below, _| {
        let names: Vec<String> = (0..16).map(|n| format!("{n:02}")).collect();
        let entries: Vec<Entry<'_>> = names
            .iter()
            .map(|name| Entry {
                mode: "40000",
                name: name.as_bytes(),
                id: below,
            })
            .collect();
        repository.raw_tree(&entries)
    });
    let cases = [
        ("dotgit", tree("40000", b".git", inner), "file_name_invalid"),
        (
            "dotgit-case",
            tree("40000", b".GIT", inner),
            "file_name_invalid",
        ),
        (
            "short-name",
            tree("40000", b"git~1", inner),
            "file_name_invalid",
        ),
        ("dotdot", tree("40000", b"..", inner), "file_name_invalid"),
        ("dot", tree("40000", b".", inner), "file_name_invalid"),
        ("slash", tree(BLOB, b"a/../../b", blob), "file_name_invalid"),
        ("plain-slash", tree(BLOB, b"a/b", blob), "file_name_invalid"),
        (
            "absolute",
            tree(BLOB, b"/etc/cron.d/x", blob),
            "file_name_invalid",
        ),
        ("bytes", tree(BLOB, b"\xff\xfe", blob), "file_name_invalid"),
        ("twice", two, "file_name_invalid"),
        (
            "link-directory",
            link_then_directory,
            "symlink_escapes|file_name_invalid",
        ),
        (
            "link-absolute",
            tree("120000", b"l", target("/etc/passwd")),
            "symlink_escapes",
        ),
        (
            "link-up",
            tree("120000", b"l", target("../../secret")),
            "symlink_escapes",
        ),
        ("bomb", bomb, "source_too_large"),
    ];
    for (branch, tree, _) in &cases {
        repository.commit_tree(branch, "Hostile", *tree);
    }
    let server = GitServer::start(&repositories);
    let store = store(&root);
    for (branch, _, code) in cases {
        let local = from_file(&store, &repositories.join("h.git"), Some(branch)).await;
        let found = local.expect_err(branch);
        assert!(
            code.split('|').any(|code| found.code == code),
            "{branch}: {found:?}"
        );
        if branch == "link-up" || branch == "dotgit" {
            let remote =
                over_http(&store, git(&server.url("repos/h.git"), Some(branch), None)).await;
            assert_eq!(remote.expect_err(branch).code, found.code);
        }
    }
    assert_eq!(
        fs::read_dir(&root).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

#[tokio::test]
async fn submodules_and_lfs_pointers_are_noted() {
    let (_guard, repositories, root) = places();
    let path = repositories.join("s.git");
    let repository = TestRepository::new(&path);
    let pointer =
        repository.blob(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n");
    let module = git2::Oid::from_str("0123456789012345678901234567890123456789").unwrap();
    let tree = repository.raw_tree(&[
        Entry {
            mode: "100644",
            name: b".gitmodules",
            id: repository.blob(b"[submodule \"x\"]\n\tpath = x\r\n"),
        },
        Entry {
            mode: "100644",
            name: b"model.bin",
            id: pointer,
        },
        Entry {
            mode: "100755",
            name: b"run",
            id: repository.blob(b"#!/bin/sh\n"),
        },
        Entry {
            mode: "160000",
            name: b"x",
            id: module,
        },
    ]);
    repository.commit_tree("main", "S", tree);
    let (say, said) = log();
    let source = Source::Git {
        url: Url::from_file_path(&path).unwrap().to_string(),
        reference: None,
        commit: None,
        repository: None,
    };
    let found = store(&root)
        .obtain_saying(&source, &Uploads::default(), say, soon())
        .await
        .unwrap();
    assert!(!found.path.join("x").exists());
    assert_eq!(
        fs::metadata(found.path.join("run"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o755
    );
    let said: Vec<String> = said.try_iter().collect();
    assert!(
        said.iter().any(|line| line.contains("submodule x")),
        "{said:?}"
    );
    assert!(
        said.iter()
            .any(|line| line.contains("Git LFS") && line.contains("model.bin")),
        "{said:?}"
    );
}

#[tokio::test]
async fn uploads_are_checked_and_kept() {
    let (_guard, _, root) = places();
    let store = store(&root);
    let mut uploads = Uploads::default();
    let obtain = async |uploads: &Uploads, source: &Source| {
        store.obtain_saying(source, uploads, log().0, soon()).await
    };

    let good = uploads.add(packed(&[("main.py", "hello"), ("a/b.py", "x")]));
    let tree = obtain(&uploads, &good).await.unwrap();
    assert_eq!(
        (text(&tree, "main.py"), text(&tree, "a/b.py")),
        ("hello".to_owned(), "x".to_owned())
    );
    assert_eq!(tree.commit.id.len(), 64);
    let again = obtain(&Uploads::default(), &good).await.unwrap();
    assert_eq!(again, tree, "kept, without the upload");

    let not_gzip = uploads.add(b"PK\x03\x04 a zip file".to_vec());
    let not_tar = uploads.add(gzip(b"hello"));
    let mut cut_short = packed(&[("main.py", &"x".repeat(100_000))]);
    cut_short.truncate(cut_short.len() / 2);
    let cut_short = uploads.add(cut_short);
    let escaping = uploads.add(packed(&[("../main.py", "x")]));
    let bomb = uploads.add(gzip(&vec![0; 300 * 1024 * 1024]));
    let huge = uploads.add(vec![0; 51 * 1024 * 1024]);
    for (source, code) in [
        (not_gzip, "archive_corrupt"),
        (not_tar, "archive_corrupt"),
        (cut_short, "archive_corrupt"),
        (escaping, "file_name_invalid"),
        (bomb, "archive_corrupt"),
        (huge, "source_too_large"),
        (
            Source::Upload {
                sha256: "0".repeat(64),
            },
            "upload_missing",
        ),
        (
            Source::Upload {
                sha256: "../../etc".to_owned(),
            },
            "upload_missing",
        ),
    ] {
        let found = obtain(&uploads, &source).await.unwrap_err();
        assert_eq!(found.code, code, "{found:?}");
    }
    let bytes = packed(&[("main.py", "changed on the way")]);
    uploads.0.insert("1".repeat(64), bytes);
    let found = obtain(
        &uploads,
        &Source::Upload {
            sha256: "1".repeat(64),
        },
    )
    .await
    .unwrap_err();
    assert!(found.cause.contains("checksum"), "{}", found.cause);
    assert_eq!(
        fs::read_dir(&root).unwrap().count(),
        1,
        "only the good one is left"
    );
}

#[tokio::test]
async fn the_store_survives_damage_and_interruption() {
    let (_guard, _, root) = places();
    let mut uploads = Uploads::default();
    let source = uploads.add(packed(&[("main.py", "hello")]));
    let tree = store(&root)
        .obtain_saying(&source, &uploads, log().0, soon())
        .await
        .unwrap();
    fs::write(tree.path.join("main.py"), "").unwrap();
    fs::create_dir(root.join(".incoming-left")).unwrap();
    let store = store(&root);
    assert!(!root.join(".incoming-left").exists());
    let again = store
        .obtain_saying(&source, &uploads, log().0, soon())
        .await
        .unwrap();
    assert_eq!(text(&again, "main.py"), "hello");
    assert_eq!(store.retain(std::slice::from_ref(&again.path)).unwrap(), 0);
    assert_eq!(store.retain(&[]).unwrap(), 1);
    assert!(!again.path.exists());
}

#[tokio::test]
async fn the_same_commit_of_another_repository_is_fetched_anew() {
    let (_guard, repositories, root) = places();
    let one = TestRepository::new(&repositories.join("one"));
    let commit = one.commit("main", "Secret", &[("main.py", "secret")]);
    let store = store(&root);
    from_file(&store, &repositories.join("one"), None)
        .await
        .unwrap();
    TestRepository::new(&repositories.join("two")).commit("main", "Mine", &[("main.py", "mine")]);
    let source = Source::Git {
        url: Url::from_file_path(repositories.join("two"))
            .unwrap()
            .to_string(),
        reference: None,
        commit: Some(commit.to_string()),
        repository: None,
    };
    let found = store
        .obtain_saying(&source, &Uploads::default(), log().0, soon())
        .await
        .unwrap_err();
    assert_eq!(found.code, "commit_not_found");
}

#[test]
fn addresses_are_judged_and_rebuilt() {
    for (text, rebuilt) in [
        ("https://example.com/o/r.git", "https://example.com/o/r.git"),
        (
            " HTTPS://Example.COM:443/o/r/?x=y#z ",
            "https://example.com/o/r",
        ),
        (
            "https://example.com:8443/o/r",
            "https://example.com:8443/o/r",
        ),
        ("file:///srv/r", "file:///srv/r"),
    ] {
        assert_eq!(checked_url(text, true).unwrap().as_str(), rebuilt);
    }
    for (text, part) in [
        ("http://example.com/o/r", "https://"),
        ("git@example.com:o/r.git", "https://example.com/o/r.git"),
        ("ssh://git@example.com/o/r", "https://"),
        ("ssh://-oProxyCommand=touch%20x/o/r", "https://"),
        ("git://example.com/o/r", "https://"),
        ("ext::sh -c touch%20x", "https://"),
        ("ext::sh", "https://"),
        ("--upload-pack=touch", "https://"),
        ("example.com/o/r", "https://example.com/o/r"),
        ("https://user:secret@example.com/o/r", "before"),
        ("https://token@example.com/o/r", "@"),
        ("https://example.com", "path"),
        ("https://example.com/", "path"),
        ("https://exa mple.com/o/r", "https://"),
        ("file://host/srv/r", "file:///"),
        ("file:///", "file:///"),
        ("", "https://"),
        ("berth-fetch://x/", "https://"),
    ] {
        let found = checked_url(text, true).expect_err(text);
        assert_eq!(found.code, "source_url_invalid");
        assert!(!format!("{found:?}").contains("secret"), "{found:?}");
        if !text.contains('@') || text.starts_with("git@") || text.starts_with("ssh") {
            assert!(found.fix.contains(part), "{text}: {}", found.fix);
        }
    }
    let found = checked_url("file:///srv/r", false).unwrap_err();
    assert!(found.cause.contains("not allowed"));
}
