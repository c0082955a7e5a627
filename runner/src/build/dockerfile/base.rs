//! What a `FROM` stands on.
//!
//! The official images of Python and Node are answered by the platform's own runtime of that
//! version: most machines that host servers have one, and a registry's need not be trusted or
//! reached. Whatever else is pulled only where the operator allows it by name.

use globset::GlobBuilder;

use crate::diagnose::{Code, diagnosis, list};
use crate::protocol::Diagnosis;

/// What the images of uv are called.
const UV: &str = "ghcr.io/astral-sh/uv";
/// What an official image may say of its system: those of Debian, whose programs the platform's has.
const OF_DEBIAN: [&str; 5] = ["slim", "bookworm", "bullseye", "buster", "trixie"];

/// What a stage stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// A runtime image of the platform, `python:3.12`.
    Runtime(String),
    /// An earlier stage, by its number.
    Stage(usize),
    /// An image that the engine pulls.
    Pulled(String),
}

/// What there is to stand on.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// The runtime images that are here.
    pub images: &'a [String],
    /// Patterns of names that may be pulled.
    pub pull: &'a [String],
}

impl Offer<'_> {
    /// Finds what a name stands for; the sentence is for the log.
    pub fn find(&self, written: &str) -> Result<(Base, Option<String>), Diagnosis> {
        if let Some((runtime, version)) = self.runtime(written)? {
            let says = format!("{written} is answered by this platform's own {runtime}:{version}.");
            return Ok((Base::Runtime(format!("{runtime}:{version}")), Some(says)));
        }
        if written == "scratch" {
            return Err(unavailable(
                "FROM scratch begins with nothing, so there is nothing to run a server with",
                self,
            ));
        }
        if self.may_be_pulled(written) {
            return Ok((Base::Pulled(written.to_owned()), None));
        }
        Err(unavailable(
            format!("There is no base image {written} here"),
            self,
        ))
    }

    /// Whether a name is that of uv's own image, of which `COPY --from` takes the program.
    pub fn is_uv(written: &str) -> bool {
        split(written).0 == UV
    }

    /// The runtime that has uv's program: that of the stage that asks, or any.
    pub fn with_uv(&self) -> Result<Base, Diagnosis> {
        let newest = self.versions("python").into_iter().next_back();
        let newest = newest.map(|version| Base::Runtime(format!("python:{version}")));
        newest.ok_or_else(|| unavailable("No Python runtime is here, whose uv could be used", self))
    }

    /// The runtime and version that an official name asks for; an error where that is not here.
    fn runtime(&self, written: &str) -> Result<Option<(&'static str, String)>, Diagnosis> {
        let (name, tag) = split(written);
        let (runtime, tag) = match name {
            "python" | "library/python" => ("python", tag),
            "node" | "library/node" => ("node", tag),
            UV => match tag.strip_prefix("python") {
                Some(tag) => ("python", tag),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        let mut parts = tag.split('-').peekable();
        let version = match parts.peek() {
            Some(part) if OF_DEBIAN.contains(part) => "latest",
            _ => parts.next().unwrap_or("latest"),
        };
        if let Some(other) = parts.find(|part| !OF_DEBIAN.contains(part)) {
            if self.may_be_pulled(written) {
                return Ok(None);
            }
            let why = format!("{written} is built on {other}, and the runtimes here are Debian's");
            return Err(unavailable(why, self));
        }
        let found = self.version(runtime, version);
        match found {
            Some(version) => Ok(Some((runtime, version))),
            None if self.may_be_pulled(written) => Ok(None),
            None => Err(unavailable(
                format!("There is no {runtime} {version} here"),
                self,
            )),
        }
    }

    /// The version that is here for one that is written: `3.12`, `3.12.4`, `3`, `22.1.0`, `lts`.
    fn version(&self, runtime: &str, written: &str) -> Option<String> {
        let mut here = self.versions(runtime);
        let numbers: Vec<&str> = written.split('.').collect();
        match written {
            "" | "latest" | "current" => {}
            // Long-term support is given to even ones.
            "lts" => here.retain(|version| version.parse::<u32>().is_ok_and(|n| n % 2 == 0)),
            _ => here.retain(|version| {
                let own: Vec<&str> = version.split('.').collect();
                let common = own.len().min(numbers.len());
                own[..common] == numbers[..common]
            }),
        }
        here.pop()
    }

    /// The versions of a runtime, in order.
    fn versions(&self, runtime: &str) -> Vec<String> {
        let prefix = format!("{runtime}:");
        let names = self
            .images
            .iter()
            .filter_map(|image| image.strip_prefix(&prefix));
        let mut versions: Vec<String> = names.map(str::to_owned).collect();
        versions.sort_by_key(|version| {
            let numbers = version
                .split('.')
                .map(|part| part.parse::<u32>().unwrap_or_default());
            numbers.collect::<Vec<u32>>()
        });
        versions
    }

    fn may_be_pulled(&self, written: &str) -> bool {
        written != "scratch" && is_reference(written) && {
            let full = full_name(written);
            self.pull.iter().any(|pattern| {
                let glob = GlobBuilder::new(pattern).literal_separator(true).build();
                glob.is_ok_and(|glob| {
                    let matcher = glob.compile_matcher();
                    matcher.is_match(written) || matcher.is_match(&full)
                })
            })
        }
    }
}

/// What a name may hold, so that nothing else reaches the engine.
fn is_reference(written: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    (1..=255).contains(&written.len())
        && written.chars().all(fits)
        && written.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !written.contains("..")
}

/// `docker.io/library/alpine:3`, of `alpine:3`.
fn full_name(written: &str) -> String {
    match written.split_once('/') {
        None => format!("docker.io/library/{written}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => written.to_owned(),
        Some(_) => format!("docker.io/{written}"),
    }
}

/// Name and tag, without the usual registry and without a digest.
fn split(written: &str) -> (&str, &str) {
    let name = written.strip_prefix("docker.io/").unwrap_or(written);
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (name, "latest"),
    }
}

/// No such base; says which there are and who permits more.
fn unavailable(why: impl AsRef<str>, offer: &Offer<'_>) -> Diagnosis {
    let bases: Vec<String> = offer
        .images
        .iter()
        .filter(|image| image.starts_with("python:") || image.starts_with("node:"))
        .map(|image| match image.split_once(':') {
            Some(("python", version)) => format!("python:{version}-slim"),
            _ => format!("{image}-slim"),
        })
        .collect();
    let here = if bases.is_empty() {
        "none is here".to_owned()
    } else {
        list(&bases, bases.len())
    };
    let pulled = if offer.pull.is_empty() {
        String::new()
    } else {
        format!(", and those that match {}", offer.pull.join(", "))
    };
    diagnosis(
        Code::BaseImageUnavailable,
        format!(
            "{}; the base images there are: {here}{pulled}.",
            why.as_ref()
        ),
        "Begin with one of these, or ask the operator to make the runtime with deploy/images/build or to allow the image's name in BERTH_PULL_IMAGES.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGES: [&str; 5] = ["node:20", "node:22", "python:3.9", "python:3.11", "redis:7"];

    fn find(written: &str, pull: &[&str]) -> Result<Base, Diagnosis> {
        let images = IMAGES.map(str::to_owned);
        let pull: Vec<String> = pull.iter().map(|text| (*text).to_owned()).collect();
        let offer = Offer {
            images: &images,
            pull: &pull,
        };
        offer.find(written).map(|(base, _)| base)
    }

    #[test]
    fn official_names_are_the_platforms_runtimes() {
        for (written, runtime) in [
            ("python:3.11", "python:3.11"),
            ("python:3.11-slim", "python:3.11"),
            ("python:3.11.9-slim-bookworm", "python:3.11"),
            ("docker.io/library/python:3.11-bookworm", "python:3.11"),
            ("python:3.11-slim@sha256:00", "python:3.11"),
            ("python", "python:3.11"),
            ("python:3", "python:3.11"),
            ("python:slim", "python:3.11"),
            ("python:3.9", "python:3.9"),
            ("node:22-slim", "node:22"),
            ("node:22.4.1", "node:22"),
            ("node:lts-bookworm-slim", "node:22"),
            (
                "ghcr.io/astral-sh/uv:python3.11-bookworm-slim",
                "python:3.11",
            ),
        ] {
            assert_eq!(
                find(written, &[]).unwrap(),
                Base::Runtime(runtime.into()),
                "{written}"
            );
        }
    }

    #[test]
    fn whatever_else_is_refused_and_says_what_there_is() {
        for written in [
            "scratch",
            "alpine:3",
            "python:3.12",
            "python:3.11-alpine",
            "node:18",
            "golang:1.22",
            "evil.example/python:3.11",
            "someone/python:3.11",
            "redis:7",
            "ghcr.io/astral-sh/uv:0.5",
            "berth/python:3.11",
            "../x",
        ] {
            let found = find(written, &[]).unwrap_err();
            assert_eq!(found.code, "base_image_unavailable", "{written}");
            assert!(found.cause.contains("python:3.11-slim"), "{}", found.cause);
            assert!(found.fix.contains("BERTH_PULL_IMAGES"), "{}", found.fix);
        }
    }

    #[test]
    fn what_the_operator_allows_is_pulled() {
        let pull = ["alpine:*", "ghcr.io/company/*", "python:3.1?-alpine"];
        for written in [
            "alpine:3.20",
            "ghcr.io/company/base:1",
            "python:3.12-alpine",
        ] {
            assert_eq!(find(written, &pull).unwrap(), Base::Pulled(written.into()));
        }
        for written in [
            "ghcr.io/company/a/b",
            "debian:12",
            "alpine:3;x",
            "ghcr.io/other/x",
            "scratch",
        ] {
            assert!(find(written, &pull).is_err(), "{written}");
        }
        assert!(find("scratch", &["*"]).is_err());
        assert_eq!(
            find("debian:12", &["docker.io/library/*"]).unwrap(),
            Base::Pulled("debian:12".into())
        );
        // The platform's own runtime is there, so nothing is pulled for it.
        assert_eq!(
            find("python:3.11", &["*"]).unwrap(),
            Base::Runtime("python:3.11".into())
        );
    }
}
