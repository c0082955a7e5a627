//! Which Python a source wants, and which of those present it gets.
//!
//! Only `major.minor` is chosen: the patch release is the image's. Specifiers are read as PEP 440
//! and poetry write them, and compared at that precision; where a patch release would decide, the
//! image is taken to have it.

use crate::diagnose::{Code, diagnosis, list};
use crate::protocol::Diagnosis;

/// Taken when nothing asks for a version and it is present.
const DEFAULT: Version = Version(3, 11);
/// How an image's name begins.
const IMAGE_PREFIX: &str = "python:";

/// `major.minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What a source says of its Python.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// `3.12`, `3.12.4`, `>=3.11,<3.13`.
    pub text: String,
    /// The file it stands in.
    pub file: String,
}

/// Chooses among `images` (`python:3.11`, …). Gives the version and one sentence of reason.
pub fn choose(wish: Option<&Wish>, images: &[String]) -> Result<(Version, String), Diagnosis> {
    let mut present: Vec<Version> = images
        .iter()
        .filter_map(|image| exact(image.strip_prefix(IMAGE_PREFIX)?))
        .filter_map(|(version, _)| version)
        .collect();
    present.sort_unstable();
    present.dedup();
    let Some(newest) = present.last().copied() else {
        return Err(diagnosis(
            Code::PythonVersionUnavailable,
            "This platform has no Python runtime image.",
            "Ask the operator to build one with deploy/images/build.",
        ));
    };
    let usual = if present.contains(&DEFAULT) {
        DEFAULT
    } else {
        newest
    };
    let Some(wish) = wish else {
        return Ok((
            usual,
            format!("Python {usual}: nothing asks for a version."),
        ));
    };
    let Some(admits) = parse(&wish.text) else {
        return Err(diagnosis(
            Code::ConfigurationInvalid,
            format!(
                "{} asks for Python {:?}, which is not a version.",
                wish.file, wish.text
            ),
            "Write it like 3.11, or like >=3.11 in requires-python.",
        ));
    };
    let fitting = present
        .iter()
        .rev()
        .copied()
        .filter(|version| admits(*version));
    let chosen = if admits(usual) {
        Some(usual)
    } else {
        fitting.max()
    };
    match chosen {
        Some(version) => Ok((
            version,
            format!("Python {version}: {} asks for {}.", wish.file, wish.text),
        )),
        None => Err(unavailable(wish, &present)),
    }
}

fn unavailable(wish: &Wish, present: &[Version]) -> Diagnosis {
    let names: Vec<String> = present.iter().map(ToString::to_string).collect();
    diagnosis(
        Code::PythonVersionUnavailable,
        format!(
            "{} asks for Python {}, and this platform has {}.",
            wish.file,
            wish.text,
            list(&names, names.len())
        ),
        format!(
            "Change {} to admit Python {}, or ask the operator to add the version you need.",
            wish.file,
            names.last().map_or("", String::as_str)
        ),
    )
}

type Admits = Box<dyn Fn(Version) -> bool>;

/// A version or a specifier; `None` when it is neither.
fn parse(text: &str) -> Option<Admits> {
    let text = text.trim().trim_matches(['"', '\'']);
    let bare = ["cpython-", "cpython@", "python-", "python"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .unwrap_or(text)
        .trim();
    if let Some((version, major)) = exact(bare) {
        return Some(Box::new(move |have| {
            version.map_or(have.0 == major, |version| have == version)
        }));
    }
    let clauses: Option<Vec<Admits>> = bare
        .split(',')
        .map(str::trim)
        .filter(|clause| !clause.is_empty())
        .map(clause)
        .collect();
    let clauses = clauses.filter(|clauses| !clauses.is_empty())?;
    Some(Box::new(move |have| {
        clauses.iter().all(|clause| clause(have))
    }))
}

/// `3`, `3.11`, `3.11.4`, `3.11.*`, `3.13t`: the version and the major part.
fn exact(text: &str) -> Option<(Option<Version>, u32)> {
    let mut parts = text.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = match parts.next() {
        None | Some("*") => None,
        // `t` marks the free-threaded build, which is the same language.
        Some(minor) => Some(Version(
            major,
            minor.strip_suffix('t').unwrap_or(minor).parse().ok()?,
        )),
    };
    let patch = parts.next().is_none_or(|patch| {
        let number = patch.starts_with(|c: char| c.is_ascii_digit());
        patch == "*" || number && patch.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    (patch && parts.next().is_none()).then_some((minor, major))
}

/// One clause of a specifier (PEP 440, "Version specifiers").
fn clause(text: &str) -> Option<Admits> {
    const OPERATORS: &[&str] = &["===", "==", "~=", "!=", ">=", "<=", ">", "<", "^", "~"];
    let operator = OPERATORS
        .iter()
        .find(|operator| text.starts_with(**operator))?;
    let rest = text[operator.len()..].trim();
    let (minor, major) = exact(rest)?;
    let floor = minor.unwrap_or(Version(major, 0));
    let has_patch = rest
        .split('.')
        .nth(2)
        .is_some_and(|patch| patch != "*" && patch != "0");
    let starred = rest.ends_with('*');
    Some(match *operator {
        ">=" => Box::new(move |have| have >= floor),
        // A patch release above `3.10` is above it, so `>3.10` admits 3.10 itself.
        ">" => Box::new(move |have| have >= floor),
        "<" => Box::new(move |have| {
            if has_patch {
                have <= floor
            } else {
                have < floor
            }
        }),
        "<=" => Box::new(move |have| have <= floor),
        "!=" => Box::new(move |have| !starred || have != floor),
        "==" | "===" | "~" => {
            Box::new(move |have| minor.map_or(have.0 == major, |version| have == version))
        }
        "~=" if rest.split('.').count() > 2 => Box::new(move |have| have == floor),
        // `~=3.11` and poetry's `^3.11`: from there to the next major.
        _ => Box::new(move |have| have >= floor && have.0 == major),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(versions: &[&str]) -> Vec<String> {
        let mut images: Vec<String> = versions
            .iter()
            .map(|version| format!("python:{version}"))
            .collect();
        images.push("node:22".to_owned());
        images
    }

    fn pick(wish: &str, versions: &[&str]) -> Result<String, Diagnosis> {
        let wish = Wish {
            text: wish.to_owned(),
            file: ".python-version".to_owned(),
        };
        choose(Some(&wish), &images(versions)).map(|(version, _)| version.to_string())
    }

    #[test]
    fn the_default_is_taken_where_it_fits() {
        assert_eq!(
            choose(None, &images(&["3.10", "3.11", "3.13"]))
                .unwrap()
                .0
                .to_string(),
            "3.11"
        );
        assert_eq!(
            choose(None, &images(&["3.12", "3.9"]))
                .unwrap()
                .0
                .to_string(),
            "3.12"
        );
        for wish in [
            ">=3.10",
            ">=3.11,<4",
            "3.11",
            "3.11.4",
            "3",
            ">3.10",
            "~=3.10",
            "^3.10",
            "==3.11.*",
            "python3.11",
            "cpython-3.11.7",
            "~=3.11.2",
            "<3.13",
            ">=3.10, <=3.12",
            "!=3.11.2",
            "3.11.*",
        ] {
            assert_eq!(
                pick(wish, &["3.10", "3.11", "3.13"]).unwrap(),
                "3.11",
                "{wish}"
            );
        }
    }

    #[test]
    fn otherwise_the_newest_that_fits() {
        assert_eq!(pick(">=3.12", &["3.11", "3.12", "3.13"]).unwrap(), "3.13");
        assert_eq!(
            pick(">=3.12,<3.13", &["3.11", "3.12", "3.13"]).unwrap(),
            "3.12"
        );
        assert_eq!(pick("<3.11", &["3.9", "3.10", "3.11"]).unwrap(), "3.10");
        assert_eq!(pick("!=3.11.*,>=3.10", &["3.10", "3.11"]).unwrap(), "3.10");
    }

    #[test]
    fn an_absent_version_names_those_there_are() {
        let found = pick("3.13", &["3.11", "3.12"]).unwrap_err();
        assert_eq!(found.code, "python_version_unavailable");
        assert_eq!(
            found.cause,
            ".python-version asks for Python 3.13, and this platform has 3.11 and 3.12."
        );
        assert_eq!(
            choose(None, &[]).unwrap_err().code,
            "python_version_unavailable"
        );
    }

    #[test]
    fn nonsense_is_told_apart() {
        for wish in ["latest", "pypy3.10", "3.x", ">=", "3.11; rm -rf /", ""] {
            assert_eq!(
                pick(wish, &["3.11"]).unwrap_err().code,
                "configuration_invalid",
                "{wish}"
            );
        }
    }
}
