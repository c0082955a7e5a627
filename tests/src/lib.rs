//! What integration tests stand on: a real platform, its command line, Git repositories, Python
//! environments with real clients, and a real browser.

pub mod browser;
pub mod cli;
pub mod client;
pub mod documents;
pub mod github;
pub mod identity_provider;
pub mod load;
pub mod mcp;
pub mod node;
pub mod oauth;
pub mod platform;
pub mod python;
pub mod repository;
pub mod sdist;
pub mod spare_edge;
pub mod tls;
pub mod wait;

use std::path::{Path, PathBuf};

/// The root of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the checkout")
}

/// A setting of the tests themselves.
pub fn setting(name: &str) -> Option<std::ffi::OsString> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the tests' own settings are read here and nowhere else"
    )]
    std::env::var_os(name)
}

/// Where downloaded clients and made environments are kept between runs: `TEST_CACHE`, by
/// default `target/test-cache`.
pub fn cache() -> PathBuf {
    setting("TEST_CACHE").map_or_else(|| root().join("target/test-cache"), PathBuf::from)
}

/// The binary under test: `TEST_BERTH`, by default the dev build beside this test.
pub fn berth_binary() -> PathBuf {
    if let Some(path) = setting("TEST_BERTH") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a running program has a path");
    // target/debug/deps/platform-… → target/debug/berth
    let built = test
        .parent()
        .and_then(Path::parent)
        .expect("tests lie in target/debug/deps")
        .join("berth");
    assert!(
        built.exists(),
        "{} is missing; run ./tests/run, or `cargo build -p control-plane`",
        built.display()
    );
    built
}
