//! What `berth doctor` asks of a runner's machine, and how all that a runner made is removed.

use std::fs;

use anyhow::Context;
use uuid::Uuid;

use crate::config::{Config, Settings};
use crate::runtime::docker::DockerRuntime;
use crate::runtime::{Engine, Runtime};
use crate::variables::Memory;
use crate::volumes;

/// Versions of runc that fix the container escapes of November 2025 (CVE-2025-31133, -52565,
/// -52881), per release line. Distributions may carry the fixes under older numbers.
const FIXED_RUNC: &[(u32, u32, u32)] = &[(1, 2, 8), (1, 3, 3), (1, 4, 0)];

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, for example `container engine`.
    pub subject: &'static str,
    /// How it is.
    pub state: Health,
    /// One sentence: what was found, and the next step unless it is well.
    pub text: String,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// As it should be.
    Well,
    /// It works; better would be otherwise.
    Warning,
    /// It does not work.
    Broken,
}

/// What [`remove_all`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Containers.
    pub containers: usize,
    /// Networks.
    pub networks: usize,
}

fn finding(subject: &'static str, state: Health, text: impl Into<String>) -> Finding {
    Finding {
        subject,
        state,
        text: text.into(),
    }
}

/// Looks at the engine, its version and the runtime images. Changes nothing.
pub async fn check(settings: &Settings) -> Vec<Finding> {
    let runtime = match DockerRuntime::connect(&settings.docker_host, settings.network_pool).await {
        Ok(runtime) => runtime,
        Err(error) => {
            return vec![finding(
                "container engine",
                Health::Broken,
                format!(
                    "No container engine answers at {} ({error}): start it, or set DOCKER_HOST.",
                    settings.docker_host
                ),
            )];
        }
    };
    let mut findings = Vec::new();
    match runtime.engine().await {
        Ok(engine) => {
            findings.push(finding(
                "container engine",
                Health::Well,
                format!("Version {}, API {}.", engine.version, engine.api_version),
            ));
            findings.push(runc(&engine));
            findings.push(user_namespaces(&engine));
        }
        Err(error) => findings.push(finding(
            "container engine",
            Health::Broken,
            format!("It does not say what it is: {error}."),
        )),
    }
    findings.push(images(&runtime).await);
    findings.push(match volumes::check() {
        Ok(()) => finding(
            "persistent files",
            Health::Well,
            "Each project's lie in a file system of their own, as large as they may grow.",
        ),
        Err(error) => finding(
            "persistent files",
            Health::Warning,
            format!("Their size is only watched and not limited: {error:#}."),
        ),
    });
    findings.push(match Memory::find() {
        Ok(_) => finding(
            "secrets",
            Health::Well,
            "They are handed to instances in memory.",
        ),
        Err(error) => finding("secrets", Health::Broken, format!("{error:#}.")),
    });
    findings
}

async fn images(runtime: &DockerRuntime) -> Finding {
    match runtime.images().await {
        Ok(images) if images.is_empty() => finding(
            "runtime images",
            Health::Broken,
            "There is no berth/python image: run deploy/images/build.",
        ),
        Ok(images) => {
            let names: Vec<String> = images.into_iter().map(|image| image.name).collect();
            finding(
                "runtime images",
                Health::Well,
                format!("{}.", names.join(", ")),
            )
        }
        Err(error) => finding("runtime images", Health::Broken, format!("{error}.")),
    }
}

fn runc(engine: &Engine) -> Finding {
    let Some(version) = &engine.runc else {
        return finding(
            "runc",
            Health::Warning,
            "The engine does not say which runc it uses.",
        );
    };
    if is_fixed(version) {
        finding("runc", Health::Well, format!("Version {version}."))
    } else {
        finding(
            "runc",
            Health::Warning,
            format!(
                "Version {version} may lack the fixes of CVE-2025-31133, -52565 and -52881: \
                 upgrade to 1.2.8, 1.3.3 or newer, or map container users (userns-remap)."
            ),
        )
    }
}

fn user_namespaces(engine: &Engine) -> Finding {
    if engine.user_namespaces {
        finding(
            "user namespaces",
            Health::Broken,
            "The engine maps container users, which this runner does not support yet: \
             remove userns-remap from the engine's configuration.",
        )
    } else {
        finding(
            "user namespaces",
            Health::Well,
            "Container users are not mapped.",
        )
    }
}

/// Whether a version of runc has the fixes; what cannot be read has not.
fn is_fixed(version: &str) -> bool {
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|number| number.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        return false;
    };
    let patch = numbers.next().unwrap_or_default();
    let newest = FIXED_RUNC[FIXED_RUNC.len() - 1];
    (major, minor) > (newest.0, newest.1)
        || FIXED_RUNC
            .iter()
            .any(|fixed| (major, minor) == (fixed.0, fixed.1) && patch >= fixed.2)
}

/// Removes every container, network and image of an installation, and the variables of its instances.
/// Persistent files stay, and are unmounted.
/// `None` means the installation this runner last worked for; a runner that never worked for any
/// has nothing to remove. The runner must not be running: it would bring everything back.
pub async fn remove_all(config: &Config, installation: Option<Uuid>) -> anyhow::Result<Removed> {
    let Some(installation) = (match installation {
        Some(installation) => Some(installation),
        None => last_installation(config)?,
    }) else {
        return Ok(Removed::default());
    };
    let settings = &config.settings;
    let runtime = DockerRuntime::connect(&settings.docker_host, settings.network_pool)
        .await
        .with_context(|| format!("no container engine answers at {}", settings.docker_host))?;
    let removed = remove_from(&runtime, installation).await?;
    volumes::release_all(&config.directory()?).context("unmounting the persistent files")?;
    if let Ok(memory) = Memory::find() {
        memory.remove_all(installation);
    }
    Ok(removed)
}

async fn remove_from<R: Runtime>(runtime: &R, installation: Uuid) -> anyhow::Result<Removed> {
    let mut removed = Removed::default();
    let containers = runtime.list(installation).await?;
    let removals = containers
        .iter()
        .map(|container| runtime.remove(&container.id));
    for result in futures_util::future::join_all(removals).await {
        result?;
        removed.containers += 1;
    }
    for network in runtime.networks(installation).await? {
        runtime.remove_network(&network.id).await?;
        removed.networks += 1;
    }
    for image in runtime.derived(installation).await? {
        runtime.remove_image(&image.name).await?;
    }
    Ok(removed)
}

fn last_installation(config: &Config) -> anyhow::Result<Option<Uuid>> {
    let path = config.directory()?.join("installation");
    match fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse()
            .map(Some)
            .with_context(|| format!("{} holds no UUID", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_the_fixes_are_known() {
        for version in ["1.2.8", "1.3.3", "1.3.4+ds1", "1.4.0", "1.5.0", "2.0.0"] {
            assert!(is_fixed(version), "{version}");
        }
        for version in ["1.1.5+ds1-1+deb12u1", "1.2.7", "1.3.2", "1.1.15", "", "x"] {
            assert!(!is_fixed(version), "{version}");
        }
    }
}
