//! Images with a project's Debian packages: the runtime image, and above it the files of the
//! packages and of what they depend on.
//!
//! They are fetched in a build container that knows nothing of the project, from the repositories
//! that the image names, whose signatures apt checks; nothing of a package is run, not even its
//! installation scripts. So one image serves all projects that name the same packages.
//!
//! ```text
//! systems/<key>       the packages in the image `system:<key>`, one `name=version` a line
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::container::{
    BuildHost, Failure, Site, mount, open_tenant_file, read_tenant_file, run, tenant_directory,
};
use super::environment::Workplace;
use super::pipeline::elapsed_ms;
use crate::diagnose::{Code, diagnosis};
use crate::hash::Hash;
use crate::protocol::Diagnosis;
use crate::record;
use crate::runtime::{Image, Runtime};
use crate::store;

/// What such an image is called before its key.
pub const PREFIX: &str = "system:";
/// The list of what was installed: a thousand packages with their versions.
const MAX_LIST_BYTES: u64 = 128 * 1024;
/// Raised when the programs make another image of the same packages.
const RECIPE: &[u8] = b"1";

/// The images of this machine.
pub struct Systems {
    directory: PathBuf,
    /// One at a time: two projects that want the same packages make one image.
    making: Mutex<()>,
}

/// An image that is there.
pub struct System {
    /// It.
    pub image: Image,
    /// How long it took, milliseconds, if it had to be made.
    pub timings: Vec<(String, u64)>,
}

impl Systems {
    /// Opens the store below the runner's directory.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory.join("systems"))?;
        Ok(Self {
            directory: directory.to_owned(),
            making: Mutex::default(),
        })
    }

    /// Finds the image with these packages above `base`, or makes it.
    pub async fn obtain<R: Runtime>(
        &self,
        runtime: &R,
        host: &BuildHost,
        site: &Site<'_>,
        base: &Image,
        packages: &[String],
    ) -> Result<System, Failure> {
        let _turn = tokio::select! {
            turn = self.making.lock() => turn,
            () = tokio::time::sleep_until(site.deadline) => return Err(Failure::TimedOut),
            () = site.canceled.cancelled() => return Err(Failure::Canceled),
        };
        let key = key(site, base, packages);
        let name = format!("{PREFIX}{key}");
        let list = self.directory.join("systems").join(&key);
        let there = runtime.derived(site.owner.installation).await?;
        if let Some(image) = there.into_iter().find(|image| image.name == name)
            && let Ok(installed) = fs::read_to_string(&list)
        {
            store::touch(&list);
            say(
                site,
                "The runtime with the system packages is already here",
                &installed,
            );
            return Ok(System {
                image,
                timings: Vec::new(),
            });
        }
        let begun = Instant::now();
        let place = Workplace::new(&self.directory, site)?;
        let step = Step {
            place: place.0.join("packages"),
            base: &base.name,
            program: "system.py",
            packages,
            name: &format!("{name}-raw"),
        };
        let raw = step.make(runtime, host, site).await?;
        let installed = read_tenant_file(&step.place.join("packages.txt"), MAX_LIST_BYTES)?;
        // Programs find libraries by a cache that only a container of the image itself can write.
        let step = Step {
            place: place.0.join("loader"),
            base: &raw.name,
            program: "loader.py",
            packages: &[],
            name: &name,
        };
        let made = step.make(runtime, host, site).await;
        // Its layers are the finished one's too, so only its name goes. The container that ran in it
        // may still be on its way out; then cleaning takes the name.
        if let Err(error) = runtime.remove_image(&raw.name).await {
            tracing::debug!(%error, "an image in between stays for now");
        }
        let image = made?;
        record::replace(&list, &installed)?;
        say(site, "Installed", &String::from_utf8_lossy(&installed));
        Ok(System {
            image,
            timings: vec![("system".to_owned(), elapsed_ms(begun))],
        })
    }

    /// Removes the images whose list is gone: the store was cleaned of it.
    pub async fn clean<R: Runtime>(&self, runtime: &R, installation: Uuid) {
        let _turn = self.making.lock().await;
        let images = match runtime.derived(installation).await {
            Ok(images) => images,
            Err(error) => {
                tracing::warn!(%error, "the images with system packages cannot be listed");
                return;
            }
        };
        for image in images {
            let Some(key) = image.name.strip_prefix(PREFIX) else {
                continue;
            };
            if self.directory.join("systems").join(key).exists() {
                continue;
            }
            if let Err(error) = runtime.remove_image(&image.name).await {
                tracing::warn!(%error, image = image.name, "an unused image could not be removed");
            }
        }
    }
}

/// The list that keeps an image, by the image's name; `None` for a plain runtime image.
pub fn list_of(directory: &Path, image: &str) -> Option<PathBuf> {
    let key = image.strip_prefix(PREFIX)?;
    Some(directory.join("systems").join(key))
}

/// One run of a program that writes a layer, and the image with it.
struct Step<'a> {
    place: PathBuf,
    base: &'a str,
    program: &'a str,
    packages: &'a [String],
    name: &'a str,
}

impl Step<'_> {
    async fn make<R: Runtime>(
        &self,
        runtime: &R,
        host: &BuildHost,
        site: &Site<'_>,
    ) -> Result<Image, Failure> {
        tenant_directory(&self.place)?;
        let plan = self.place.with_extension("json");
        fs::write(&plan, json!({ "packages": self.packages }).to_string())?;
        fs::set_permissions(&plan, fs::Permissions::from_mode(0o644))?;
        let mounts = vec![
            mount(&plan, "/run/berth/plan.json", true),
            mount(&self.place, "/out", false),
        ];
        // It gets none of the project's variables: what it makes is not the project's alone.
        let bare = Site {
            variables_file: None,
            ..*site
        };
        let spec = host.container(&bare, self.base, self.program, mounts);
        run(runtime, &bare, &spec).await?;
        let layer = open_tenant_file(&self.place.join("layer.tar"))?;
        let layer = tokio::fs::File::from_std(layer);
        Ok(runtime
            .derive(&site.owner, self.base, layer, self.name)
            .await?)
    }
}

/// What nothing is shared beyond: the platform, the runtime image and the packages asked for.
fn key(site: &Site<'_>, base: &Image, packages: &[String]) -> String {
    let hash = Hash::new()
        .part(RECIPE)
        .part(site.owner.installation.as_bytes())
        .part(base.id.as_bytes());
    let hash = packages
        .iter()
        .fold(hash, |hash, package| hash.part(package.as_bytes()));
    hash.hex()
}

fn say(site: &Site<'_>, what: &str, installed: &str) {
    let packages: Vec<&str> = installed.lines().collect();
    let list = packages.join(", ");
    site.log.line(format!("{what}: {list}."));
}

/// Why there is no such image, for people; `None` when the account is not of its program.
pub fn diagnose(account: &Value) -> Option<Diagnosis> {
    let text = |key: &str| account[key].as_str().unwrap_or_default();
    let message = text("message").trim_end_matches('.');
    Some(match text("code") {
        "system_not_found" => diagnosis(
            Code::DependencyNotFound,
            format!(
                "The system package {} cannot be installed: {message}.",
                text("package")
            ),
            "Correct it in apt.txt or in the project's settings; names and versions are those of the runtime's Debian release.",
        ),
        "system_unavailable" => diagnosis(
            Code::PlatformFailure,
            format!("System packages cannot be installed here: {message}."),
            "Ask the operator to make the runtime image again with deploy/images/build.",
        ),
        "system_network" => diagnosis(
            Code::RegistryUnreachable,
            format!("The Debian repository could not be read: {message}."),
            "Deploy again in a few minutes; if it stays, ask the operator whether builds can reach the repository that the runtime image names.",
        ),
        "system_too_large" => diagnosis(
            Code::DependenciesUnresolvable,
            format!("{message}."),
            "Name smaller packages, for example one library instead of a whole program.",
        ),
        "system_failed" => diagnosis(
            Code::DependenciesUnresolvable,
            format!("The system packages cannot be installed together: {message}."),
            "Read the build's log, remove or replace the package it names, and deploy again.",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_diagnosis() {
        for (code, expected) in [
            ("system_not_found", "dependency_not_found"),
            ("system_unavailable", "platform_failure"),
            ("system_network", "registry_unreachable"),
            ("system_too_large", "dependencies_unresolvable"),
            ("system_failed", "dependencies_unresolvable"),
        ] {
            let account = json!({"code": code, "message": "why.", "package": "jq"});
            let found = diagnose(&account).expect("one of ours");
            assert_eq!(found.code, expected);
            assert!(found.cause.contains("why."), "{}", found.cause);
        }
        assert!(diagnose(&json!({"code": "disk"})).is_none());
    }
}
