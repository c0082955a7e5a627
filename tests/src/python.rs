//! Python environments with the real clients, made by uv and kept in the cache.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Result, bail};

static MAKING: Mutex<()> = Mutex::new(());

/// The interpreter of an environment that holds exactly these packages. Made on first use.
pub fn environment(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let _one_at_a_time = MAKING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let directory = crate::cache().join("environments").join(name);
    let python = directory.join("bin/python");
    let complete = directory.join("complete");
    if !complete.exists() {
        let uv = crate::cache().join("uv/bin/uv");
        if !uv.exists() {
            bail!(
                "{} is missing; run ./tests/run, which installs it",
                uv.display()
            );
        }
        run(Command::new(&uv)
            .args([
                "venv",
                "--clear",
                "--quiet",
                "--python",
                "/usr/bin/python3",
                "--",
            ])
            .arg(&directory))?;
        run(Command::new(&uv)
            // The launcher writes no bytecode, so without it every start would compile everything.
            .args([
                "pip",
                "install",
                "--quiet",
                "--compile-bytecode",
                "--python",
            ])
            .arg(&python)
            .arg("--")
            .args(packages))?;
        std::fs::write(complete, "")?;
    }
    Ok(python)
}

fn run(command: &mut Command) -> Result<()> {
    // The host's CA bundle, where the package index is a mirror with a certificate of its own.
    let output = command.env("UV_SYSTEM_CERTS", "1").output()?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// A program in `tests/clients`.
pub fn client(name: &str) -> PathBuf {
    crate::root().join("tests/clients").join(name)
}
