//! Archives, honest and hostile.

use super::*;

/// Builds raw tar bytes, also such that no honest program writes.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn entry(mut self, kind: EntryType, name: &str, link: &str, contents: &[u8]) -> Self {
        extension(&mut self.0, EntryType::GNULongName, name).unwrap();
        extension(&mut self.0, EntryType::GNULongLink, link).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4777);
        header.set_size(contents.len() as u64);
        header.set_cksum();
        self.0.append(&header, contents).unwrap();
        self
    }

    fn file(self, name: &str, contents: &str) -> Self {
        self.entry(EntryType::Regular, name, "", contents.as_bytes())
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, b"")
    }

    fn extract(self) -> (tempfile::TempDir, Result<Totals, Refusal>) {
        let bytes = self.0.into_inner().unwrap();
        let into = tempfile::tempdir().unwrap();
        let result = extract(&bytes[..], into.path());
        (into, result)
    }

    fn refused(self) -> Refusal {
        self.extract().1.expect_err("must be refused")
    }
}

#[test]
fn honest_archives_come_out_as_they_went_in() {
    let mut writer = Writer::new(Vec::new());
    let long = format!("{}/{}.py", "d".repeat(200), "f".repeat(200));
    writer.file("main.py", false, b"print(1)").unwrap();
    writer.file("bin/run", true, b"").unwrap();
    writer.file(&long, false, b"x").unwrap();
    writer.link("link.py", "bin/../main.py").unwrap();
    writer.link("sub/up", "../main.py").unwrap();
    writer.link("dangling", "nowhere").unwrap();
    let bytes = writer.finish().unwrap();
    let into = tempfile::tempdir().unwrap();
    let totals = extract(&bytes[..], into.path()).unwrap();
    assert_eq!(totals, Totals { files: 6, bytes: 9 });
    assert_eq!(fs::read(into.path().join("main.py")).unwrap(), b"print(1)");
    assert_eq!(fs::read(into.path().join("link.py")).unwrap(), b"print(1)");
    assert_eq!(fs::read(into.path().join("sub/up")).unwrap(), b"print(1)");
    assert_eq!(fs::read(into.path().join(&long)).unwrap(), b"x");
    let mode = |name: &str| {
        let metadata = fs::symlink_metadata(into.path().join(name)).unwrap();
        metadata.permissions().mode() & 0o7777
    };
    assert_eq!(
        (mode("main.py"), mode("bin/run"), mode("bin")),
        (0o644, 0o755, 0o755)
    );
}

#[test]
fn set_uid_bits_and_dots_are_dropped() {
    let (into, result) = Tar::new()
        .entry(EntryType::Directory, "./", "", b"")
        .entry(EntryType::Directory, "a/", "", b"")
        .file("./a//b.py", "1")
        .entry(EntryType::Directory, "a", "", b"")
        .extract();
    assert_eq!(result.unwrap().files, 1);
    let mode = fs::metadata(into.path().join("a/b.py"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn names_that_leave_or_lie_are_refused() {
    for name in [
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a/..",
        ".git/config",
        "sub/.git/hooks/post-checkout",
        ".GIT/config",
        ".Git",
        "GIT~1/x",
        ".git /x",
        ".git./x",
        ".g\u{200c}it/x",
        "a\0b",
        "/proc/self/root/x",
    ] {
        let refusal = Tar::new().file(name, "x").refused();
        assert!(matches!(refusal, Refusal::Name { .. }), "{name}: {refusal}");
    }
    let long = "n".repeat(256);
    assert!(matches!(
        Tar::new().file(&long, "").refused(),
        Refusal::Name { .. }
    ));
    let deep = "d/".repeat(2_100);
    assert!(matches!(
        Tar::new().file(&deep, "").refused(),
        Refusal::Name { .. }
    ));
    for name in [
        ".gitignore",
        ".github/workflows/x.yml",
        "..hidden",
        "a..b",
        "git~2",
    ] {
        Tar::new().file(name, "x").extract().1.unwrap();
    }
}

#[test]
fn links_that_leave_are_refused_however_they_get_there() {
    let refusals = [
        Tar::new().link("a", "/etc/passwd"),
        Tar::new().link("a", "/proc/self/root"),
        Tar::new().link("a", ".."),
        Tar::new().link("d/a", "../.."),
        Tar::new().link("a", "b/../../x").file("b/y", ""),
        // Each link stays inside by itself; together they leave.
        Tar::new()
            .link("d/e/up", "../..")
            .link("out", "d/e/up/../x")
            .file("d/e/f", ""),
        Tar::new().link("d/self", ".").link("out", "d/self/../../x"),
        Tar::new().link("a", "b").link("b", "a"),
        Tar::new().link("a", "a"),
        Tar::new().link("a", ""),
        Tar::new().link("a", "b\0c"),
    ];
    for (number, tar) in refusals.into_iter().enumerate() {
        let refusal = tar.refused();
        assert!(
            matches!(refusal, Refusal::Link { .. }),
            "{number}: {refusal}"
        );
    }
    let chain = (0..45).fold(Tar::new().file("l45", "x"), |tar, n| {
        tar.link(&format!("l{n}"), &format!("l{}", n + 1))
    });
    assert!(matches!(chain.refused(), Refusal::Link { .. }));
}

#[test]
fn nothing_is_written_through_a_link() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    for tar in [
        Tar::new().link("d", target).file("d/x", "evil"),
        Tar::new().link("d", "e").file("d/x", "evil"),
        Tar::new().file("d/x", "evil").link("d", "e"),
        Tar::new().link("x", "y").file("x", "evil"),
        Tar::new().file("x", "1").file("x", "2"),
        Tar::new().file("x", "1").file("x/y", "2"),
        Tar::new()
            .link("d", "e")
            .entry(EntryType::Directory, "d", "", b""),
    ] {
        let refusal = tar.refused();
        assert!(
            matches!(refusal, Refusal::Twice(_) | Refusal::Link { .. }),
            "{refusal}"
        );
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn other_kinds_are_refused() {
    for (kind, word) in [
        (EntryType::Link, "hard link"),
        (EntryType::Char, "device"),
        (EntryType::Block, "device"),
        (EntryType::Fifo, "pipe"),
        (EntryType::GNUSparse, "sparse"),
    ] {
        let refusal = Tar::new()
            .file("f", "x")
            .entry(kind, "a", "f", b"")
            .refused();
        assert!(refusal.to_string().contains(word), "{refusal}");
    }
}

#[test]
fn limits_hold() {
    let many = (0..=MAX_NODES).fold(Tar::new(), |tar, n| tar.file(&format!("f{n}"), ""));
    assert!(matches!(many.refused(), Refusal::TooMany));
    // Few files, many directories.
    let deep = (0..30).fold(Tar::new(), |tar, n| {
        tar.file(&format!("{n}/{}x", "d/".repeat(1_000)), "")
    });
    assert!(matches!(deep.refused(), Refusal::TooMany));

    let mut header = tar::Header::new_gnu();
    header.set_path("big").unwrap();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(MAX_TREE_BYTES + 1);
    header.set_cksum();
    let into = tempfile::tempdir().unwrap();
    let bomb = io::Cursor::new(header.as_bytes().to_vec()).chain(io::repeat(0));
    assert!(matches!(extract(bomb, into.path()), Err(Refusal::TooLarge)));
    // Endless empty directories, or one header that claims to be longer than memory.
    let endless = io::repeat(0);
    assert!(matches!(
        extract(endless.take(MAX_ARCHIVE_BYTES * 2), into.path()),
        Err(Refusal::Corrupt(_))
    ));
    header.set_entry_type(EntryType::GNULongName);
    header.set_cksum();
    let long = io::Cursor::new(header.as_bytes().to_vec()).chain(io::repeat(b'a'));
    assert!(matches!(
        extract(long, into.path()),
        Err(Refusal::Corrupt(_))
    ));
}

/// The same bytes over and over.
struct Endless(Vec<u8>, usize);
impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = &self.0[self.1..];
        let count = part.len().min(buffer.len());
        buffer[..count].copy_from_slice(&part[..count]);
        self.1 = (self.1 + count) % self.0.len();
        Ok(count)
    }
}

#[test]
fn a_stream_beyond_the_limit_is_too_large_whatever_reads_it() {
    // Unknown extensions of 60 KiB each, without end.
    let mut block = Vec::new();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::XGlobalHeader);
    header.set_size(60 * 1024);
    header.set_cksum();
    block.extend_from_slice(header.as_bytes());
    block.resize(block.len() + 60 * 1024, b'a');
    let into = tempfile::tempdir().unwrap();
    assert!(matches!(
        extract(Endless(block, 0), into.path()),
        Err(Refusal::TooLarge)
    ));
}

#[test]
fn broken_archives_are_corrupt() {
    let into = tempfile::tempdir().unwrap();
    for bytes in [&b""[..], b"not a tar", &[0; 1024], &[0xff; 2048]] {
        assert!(matches!(
            extract(bytes, into.path()),
            Err(Refusal::Corrupt(_))
        ));
    }
    let mut writer = Writer::new(Vec::new());
    writer.file("a", false, &[b'x'; 5_000]).unwrap();
    let bytes = writer.finish().unwrap();
    assert!(matches!(
        extract(&bytes[..3_000], into.path()),
        Err(Refusal::Corrupt(_))
    ));
}

#[test]
fn pax_names_are_judged_too() {
    let build = |key: &str, value: &[u8]| {
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_pax_extensions([(key, value)]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_path("innocent").unwrap();
        header.set_mode(0o644);
        header.set_size(1);
        header.set_cksum();
        tar.append(&header, &b"x"[..]).unwrap();
        let bytes = tar.into_inner().unwrap();
        let into = tempfile::tempdir().unwrap();
        let result = extract(&bytes[..], into.path());
        (into, result)
    };
    assert!(matches!(
        build("path", b"../out").1,
        Err(Refusal::Name { .. })
    ));
    assert!(matches!(build("size", b"99").1, Err(Refusal::Corrupt(_))));
    assert!(matches!(
        build("GNU.sparse.map", b"0,1").1,
        Err(Refusal::Corrupt(_))
    ));
    let (into, result) = build("path", "grüße.py".as_bytes());
    result.unwrap();
    assert!(into.path().join("grüße.py").is_file());
}
