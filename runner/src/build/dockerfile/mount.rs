//! `RUN --mount=…`: what is there only while a command runs.

use super::context::Selected;
use super::stages::absolute;

/// Why a mount is refused, and what to do.
type Refusal = (String, &'static str);

/// What a command is lent.
#[derive(Debug, Clone, Default)]
pub struct Mounts {
    /// Empty directories whose content does not stay. A cache is no more than that: it saves
    /// downloads of a step that is run again, and steps that are the same are not.
    pub scratch: Vec<String>,
    /// Files.
    pub binds: Vec<Bind>,
}

/// Files that are lent.
#[derive(Debug, Clone)]
pub struct Bind {
    /// Those of the source that were named.
    pub files: Vec<Selected>,
    /// Where they stand: absolute.
    pub target: String,
}

/// The same as it is written.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// The image they come from; the source if `None`.
    pub from: Option<String>,
    /// The path there.
    pub source: String,
    /// Where they stand: absolute.
    pub target: String,
}

impl Mounts {
    /// Reads `type=cache,target=/x`; gives what files are to be found for.
    pub fn add(&mut self, written: &str, working_dir: &str) -> Result<Option<Asked>, Refusal> {
        let value = |names: &[&str]| {
            written
                .split(',')
                .filter_map(|part| part.split_once('='))
                .find(|(name, _)| names.contains(name))
                .map(|(_, value)| value.to_owned())
        };
        let kind = value(&["type"]).unwrap_or_else(|| "bind".to_owned());
        let target = value(&["target", "dst", "destination"]);
        let target = || {
            target
                .as_deref()
                .map(|target| absolute(working_dir, target))
                .filter(|target| target != "/")
                .ok_or_else(|| {
                    let why = format!("--mount={written} names no directory to stand in");
                    (why, "Add target= with a path.")
                })
        };
        match kind.as_str() {
            "cache" | "tmpfs" => {
                self.scratch.push(target()?);
                Ok(None)
            }
            "bind" => Ok(Some(Asked {
                from: value(&["from"]),
                source: value(&["source", "src"]).unwrap_or_default(),
                target: target()?,
            })),
            "secret" | "ssh" => {
                let why =
                    format!("--mount=type={kind} asks for a secret of the machine that builds");
                Err((
                    why,
                    "Set a variable of builds with `berth env PROJECT set --build NAME=VALUE`, and read $NAME in the command: it stays in no image.",
                ))
            }
            other => {
                let why = format!("--mount=type={other} is not known");
                Err((why, "Use type=bind, type=cache or type=tmpfs."))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_lent_and_secrets_refused() {
        let mut mounts = Mounts::default();
        let add = |mounts: &mut Mounts, text: &str| mounts.add(text, "/app");
        assert_eq!(
            add(&mut mounts, "type=cache,id=x,target=/root/.cache/uv").unwrap(),
            None
        );
        assert_eq!(add(&mut mounts, "type=tmpfs,dst=tmp").unwrap(), None);
        assert_eq!(mounts.scratch, ["/root/.cache/uv", "/app/tmp"]);
        let bind = add(&mut mounts, "type=bind,source=uv.lock,target=uv.lock")
            .unwrap()
            .unwrap();
        assert_eq!(
            (bind.source.as_str(), bind.target.as_str()),
            ("uv.lock", "/app/uv.lock")
        );
        for refused in [
            "type=secret,id=x",
            "type=ssh",
            "type=cache",
            "type=other,target=/x",
            "type=bind,target=/",
        ] {
            assert!(add(&mut mounts, refused).is_err(), "{refused}");
        }
    }
}
