//! Repositories that are larger, deeper or stranger than any honest one: each ends in a clear
//! sentence or works, and none writes outside its own directory.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use git2::{ObjectType, Oid};

use super::super::archive::{MAX_NODES, MAX_TREE_BYTES};
use super::super::git_server::{Entry, GitServer, TestRepository, places};
use super::tests::{from_file, git, over_http, store, text};
use super::*;

const BLOB: &str = "100644";
const TREE: &str = "40000";
const LINK: &str = "120000";
const MODULE: &str = "160000";

/// What becomes of a repository.
enum Outcome {
    /// It is refused with this code, and a cause that holds the text.
    Refused(&'static str, &'static str),
    /// It is taken, and these are all its files.
    Taken(&'static [&'static str]),
}
use Outcome::{Refused, Taken};

type Make = fn(&TestRepository) -> Oid;

const CASES: &[(&str, Make, Outcome)] = &[
    (
        "a-hundred-thousand-files",
        |it| {
            let blob = it.blob(b"x");
            let names: Vec<String> = (0..100_000).map(|n| format!("f{n:06}")).collect();
            it.raw_tree(
                &names
                    .iter()
                    .map(|name| entry(BLOB, name.as_bytes(), blob))
                    .collect::<Vec<_>>(),
            )
        },
        Refused("source_too_large", "more than 20000 files"),
    ),
    (
        "a-hundred-thousand-files-in-directories",
        |it| {
            let blob = it.blob(b"x");
            let names: Vec<String> = (0..1_000).map(|n| format!("f{n:06}")).collect();
            let inner = it.raw_tree(
                &names
                    .iter()
                    .map(|name| entry(BLOB, name.as_bytes(), blob))
                    .collect::<Vec<_>>(),
            );
            it.raw_tree(
                &names[..100]
                    .iter()
                    .map(|name| entry(TREE, name.as_bytes(), inner))
                    .collect::<Vec<_>>(),
            )
        },
        Refused("source_too_large", "more than 20000 files"),
    ),
    (
        "two-gibibytes-in-many-files",
        |it| {
            // Each within its own limit; one object, so that the repository is small.
            let blob = it.blob(&vec![0; 90 * 1024 * 1024]);
            let names: Vec<String> = (0..23).map(|n| format!("f{n:02}")).collect();
            it.raw_tree(
                &names
                    .iter()
                    .map(|name| entry(BLOB, name.as_bytes(), blob))
                    .collect::<Vec<_>>(),
            )
        },
        Refused("source_too_large", "larger than 200 MiB"),
    ),
    (
        "names-that-are-not-utf-8",
        |it| nested(it, &[(BLOB, b"caf\xe9.py", it.blob(b"x"))]),
        Refused("file_name_invalid", "not UTF-8"),
    ),
    (
        "names-that-differ-in-case",
        |it| {
            let (one, two) = (it.blob(b"1"), it.blob(b"2"));
            nested(it, &[(BLOB, b"Main.py", one), (BLOB, b"main.py", two)])
        },
        Taken(&["d/Main.py", "d/main.py"]),
    ),
    (
        "names-with-trailing-dots-and-blanks",
        |it| {
            let blob = it.blob(b"x");
            nested(
                it,
                &[
                    (BLOB, b" ", blob),
                    (BLOB, b"a ", blob),
                    (BLOB, b"a.", blob),
                    (BLOB, b"a...", blob),
                ],
            )
        },
        Taken(&["d/ ", "d/a ", "d/a.", "d/a..."]),
    ),
    (
        "names-with-line-ends-and-escapes",
        |it| nested(it, &[(BLOB, b"a\n\x1b[31mb", it.blob(b"x"))]),
        Taken(&["d/a\n\u{1b}[31mb"]),
    ),
    (
        "names-like-options",
        |it| {
            let blob = it.blob(b"x");
            it.raw_tree(&[
                entry(BLOB, b"--upload-pack=touch x", blob),
                entry(BLOB, b"-rf", blob),
            ])
        },
        Taken(&["--upload-pack=touch x", "-rf"]),
    ),
    (
        "the-longest-name",
        |it| nested(it, &[(BLOB, &[b'n'; 255], it.blob(b"x"))]),
        Taken(&[
            "d/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
        ]),
    ),
    (
        "a-name-that-is-too-long",
        |it| nested(it, &[(BLOB, &[b'n'; 256], it.blob(b"x"))]),
        Refused("file_name_invalid", "longer than 255 bytes"),
    ),
    (
        "a-tree-deeper-than-a-path-can-be",
        |it| {
            let bottom = it.raw_tree(&[entry(BLOB, b"x", it.blob(b"x"))]);
            // Git itself serves no more than 2,048 levels.
            (0..500).fold(bottom, |below, _| {
                it.raw_tree(&[entry(TREE, b"dddddddd", below)])
            })
        },
        Refused("file_name_invalid", "longer than 4096 bytes"),
    ),
    (
        "submodules-with-hostile-names-and-addresses",
        |it| {
            let modules = it.blob(b"[submodule \"--upload-pack=touch x\"]\n\tpath = x\r\n\turl = ext::sh -c touch% /tmp/x\n[submodule \"../../hooks\"]\n\tpath = hooks\n\turl = -oProxyCommand=id\n");
            let commit = Oid::from_str("0123456789012345678901234567890123456789").unwrap();
            it.raw_tree(&[
                entry(BLOB, b".gitmodules", modules),
                entry(BLOB, b"main.py", it.blob(b"x")),
                entry(MODULE, b"x\r", commit),
            ])
        },
        Taken(&[".gitmodules", "main.py"]),
    ),
    (
        "filters-and-attributes",
        |it| {
            let attributes = it
                .blob(b"* filter=evil eol=crlf ident export-ignore working-tree-encoding=UTF-16\n");
            let config = it.blob(b"[filter \"evil\"]\n\tsmudge = touch /tmp/x\n");
            it.raw_tree(&[
                entry(BLOB, b".gitattributes", attributes),
                entry(BLOB, b".gitconfig", config),
                entry(BLOB, b"main.py", it.blob(b"$Id$\n")),
            ])
        },
        Taken(&[".gitattributes", ".gitconfig", "main.py"]),
    ),
    (
        "pointers-of-git-lfs",
        |it| {
            let pointer = it.blob(
                b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 2147483648\n",
            );
            it.raw_tree(&[
                entry(
                    BLOB,
                    b".lfsconfig",
                    it.blob(b"[lfs]\n\turl = http://169.254.169.254\n"),
                ),
                entry(BLOB, b"model.bin", pointer),
            ])
        },
        Taken(&[".lfsconfig", "model.bin"]),
    ),
    (
        "a-link-out-of-the-tree",
        |it| nested(it, &[(LINK, b"l", it.blob(b"../../../../etc/passwd"))]),
        Refused("symlink_escapes", "leads out of the source"),
    ),
    (
        "a-link-to-the-root-by-way-of-proc",
        |it| nested(it, &[(LINK, b"l", it.blob(b"/proc/self/root/etc"))]),
        Refused("symlink_escapes", "absolute"),
    ),
    (
        "links-that-leave-together",
        |it| {
            let up = it.raw_tree(&[entry(LINK, b"up", it.blob(b"../.."))]);
            let deep = it.raw_tree(&[entry(TREE, b"e", up)]);
            it.raw_tree(&[
                entry(TREE, b"d", deep),
                entry(LINK, b"out", it.blob(b"d/e/up/../x")),
            ])
        },
        Refused("symlink_escapes", "leads out of the source"),
    ),
    (
        "a-link-in-a-circle",
        |it| {
            it.raw_tree(&[
                entry(LINK, b"a", it.blob(b"b")),
                entry(LINK, b"b", it.blob(b"a")),
            ])
        },
        Refused("symlink_escapes", "circle"),
    ),
    (
        "a-link-where-a-directory-is",
        |it| {
            let inner = it.raw_tree(&[entry(BLOB, b"x", it.blob(b"evil"))]);
            it.raw_tree(&[entry(LINK, b"d", it.blob(b"e")), entry(TREE, b"d", inner)])
        },
        Refused("file_name_invalid", "twice"),
    ),
    (
        "hooks-of-its-own",
        |it| {
            let hook = it.raw_tree(&[entry(
                "100755",
                b"post-checkout",
                it.blob(b"#!/bin/sh\ntouch /tmp/x\n"),
            )]);
            let hooks = it.raw_tree(&[entry(TREE, b"hooks", hook)]);
            it.raw_tree(&[entry(TREE, b".Git", hooks)])
        },
        Refused("file_name_invalid", "`.git` directory"),
    ),
];

fn entry<'a>(mode: &'a str, name: &'a [u8], id: Oid) -> Entry<'a> {
    Entry { mode, name, id }
}

/// The entries in a directory `d`.
fn nested(it: &TestRepository, entries: &[(&str, &[u8], Oid)]) -> Oid {
    let entries: Vec<Entry<'_>> = entries
        .iter()
        .map(|(mode, name, id)| entry(mode, name, *id))
        .collect();
    let inner = it.raw_tree(&entries);
    it.raw_tree(&[entry(TREE, b"d", inner)])
}

/// Every name below a directory, with its inode's last change: what a test must find unchanged.
fn names(directory: &Path) -> BTreeSet<(String, i64)> {
    let mut found = BTreeSet::new();
    let mut ahead = vec![directory.to_owned()];
    while let Some(place) = ahead.pop() {
        for entry in fs::read_dir(&place).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(directory).unwrap().to_str().unwrap();
            if metadata.is_dir() {
                ahead.push(path.clone());
            } else {
                found.insert((name.to_owned(), metadata.mtime()));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_repositories_end_in_a_sentence_or_work() {
    let (guard, repositories, root) = places();
    let repository = TestRepository::new(&repositories.join("h.git"));
    for (name, make, _) in CASES {
        repository.commit_tree(name, "Hostile", make(&repository));
    }
    let outside = guard.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), "untouched").unwrap();
    let before = names(&repositories);
    let server = GitServer::start(&repositories);
    for (name, _, outcome) in CASES {
        // A store each, so that what a case leaves is seen.
        let store = store(&root.join(name));
        let local = from_file(&store, &repositories.join("h.git"), Some(name)).await;
        let remote = over_http(&store, git(&server.url("repos/h.git"), Some(name), None)).await;
        for (way, found) in [("file", local), ("http", remote)] {
            check(name, way, found, outcome);
        }
        if matches!(outcome, Refused(..)) {
            let left = fs::read_dir(root.join(name)).unwrap().count();
            assert_eq!(left, 0, "{name} leaves something behind");
        }
    }
    assert_eq!(names(&repositories), before, "a repository was written to");
    assert_eq!(
        fs::read_to_string(outside.join("canary")).unwrap(),
        "untouched"
    );
    let beside: BTreeSet<String> = fs::read_dir(guard.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        beside,
        ["outside", "repositories", "store"]
            .map(String::from)
            .into()
    );
    assert!(
        !Path::new("/tmp/x").exists(),
        "something of a repository was run"
    );
}

fn check(name: &str, way: &str, found: Result<SourceTree, Diagnosis>, outcome: &Outcome) {
    match (found, outcome) {
        (Err(found), Refused(code, text)) => {
            assert_eq!(found.code, *code, "{name} over {way}: {found:?}");
            assert!(
                found.cause.contains(text),
                "{name} over {way}: {}",
                found.cause
            );
            assert!(found.fix.ends_with('.'), "{name}: {}", found.fix);
            let clean = |sentence: &str| !sentence.chars().any(char::is_control);
            assert!(
                clean(&found.cause) && clean(&found.fix),
                "{name}: {found:?}"
            );
        }
        (Ok(tree), Taken(files)) => {
            let here: BTreeSet<String> = names(&tree.path)
                .into_iter()
                .map(|(name, _)| name)
                .collect();
            assert_eq!(
                here,
                files.iter().map(|file| (*file).to_owned()).collect(),
                "{name} over {way}"
            );
            // Attributes and filters change nothing.
            if files.contains(&".gitattributes") {
                assert_eq!(text(&tree, "main.py"), "$Id$\n");
            }
        }
        (found, _) => panic!("{name} over {way}: {found:?}"),
    }
}

/// Two gibibytes in one file, which compresses to nearly nothing: it must neither be held in
/// memory nor written out.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes a file of two gibibytes; tests/run --long"]
async fn a_file_of_two_gibibytes_is_refused_without_being_read() {
    const SIZE: u64 = 2 * 1024 * 1024 * 1024;
    let (_guard, repositories, root) = places();
    let it = TestRepository::new(&repositories.join("h.git"));
    let odb = it.repository.odb().unwrap();
    let mut writer = odb
        .writer(usize::try_from(SIZE).unwrap(), ObjectType::Blob)
        .unwrap();
    io::copy(&mut io::repeat(0).take(SIZE), &mut writer).unwrap();
    let blob = writer.finalize().unwrap();
    it.commit_tree(
        "main",
        "Large",
        it.raw_tree(&[entry(BLOB, b"large.bin", blob)]),
    );
    let store = store(&root);
    let begun = Instant::now();
    let local = from_file(&store, &repositories.join("h.git"), None).await;
    check(
        "large",
        "file",
        local,
        &Refused("source_too_large", "larger than"),
    );
    assert!(begun.elapsed() < Duration::from_secs(5), "it was read");
    let server = GitServer::start(&repositories);
    let remote = over_http(&store, git(&server.url("repos/h.git"), None, None)).await;
    let found = remote.expect_err("large");
    assert!(
        ["source_too_large", "fetch_timeout", "repository_unreadable"].contains(&&*found.code),
        "{found:?}"
    );
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
}

/// The numbers in the sentences above are those of the limits.
#[test]
fn the_limits_are_those_that_the_sentences_name() {
    assert_eq!((MAX_NODES, MAX_TREE_BYTES), (20_000, 200 * 1024 * 1024));
}
