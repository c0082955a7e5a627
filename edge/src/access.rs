//! A project's mode of access, made ready to be asked on every request.

use std::collections::HashSet;

use http::HeaderValue;
use uuid::Uuid;

use crate::dashboard::percent_decoded;
use crate::directory::Directory;
use crate::protocol::{Callers, Policy, Route};

/// Who may call a project: [`Policy`] with sets to look into.
#[derive(Debug)]
pub(crate) enum Access {
    /// Whoever has a token that these rules take.
    Platform(Rules),
    /// Anyone.
    Public,
    /// The server decides itself.
    Tenant,
}

/// What a project of mode platform asks for.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The scope that an access token must carry, and that an API token stands for.
    pub(crate) scope: HeaderValue,
    callers: Admitted,
    public_paths: PublicPaths,
}

/// [`Callers`] with a set to look into.
#[derive(Debug)]
enum Admitted {
    /// Everyone who is signed in, and the service accounts of this organization.
    Anyone(Uuid),
    /// These alone.
    Only(HashSet<Uuid>),
}

/// By which right a request passes, which says what may pass with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passing {
    /// By a token of the platform, which the server does not see.
    Checked,
    /// The path is open in a project that asks for tokens elsewhere.
    PublicPath,
    /// The project is open; the edge still keeps foreign web pages off its MCP paths.
    Public,
    /// The server decides itself: everything is its own.
    Tenant,
}

impl Access {
    /// Makes the policy of `route` ready.
    pub(crate) fn new(route: &Route) -> anyhow::Result<Self> {
        Ok(match &route.policy {
            Policy::Platform {
                scope,
                callers,
                public_paths,
            } => Self::Platform(Rules {
                scope: HeaderValue::try_from(scope.as_str())?,
                callers: match callers {
                    Callers::Anyone => Admitted::Anyone(route.organization),
                    Callers::Only(users) => Admitted::Only(users.iter().copied().collect()),
                },
                public_paths: PublicPaths::new(public_paths),
            }),
            Policy::Public => Self::Public,
            Policy::Tenant => Self::Tenant,
        })
    }

    /// By which right a request for `path` may pass at the project's own host; `None` where nothing
    /// is served.
    pub(crate) fn passing(&self, path: &str) -> Option<Passing> {
        match self {
            Self::Platform(_) if is_mcp_path(path) => Some(Passing::Checked),
            Self::Platform(rules) => rules
                .public_paths
                .contain(path)
                .then_some(Passing::PublicPath),
            Self::Public => Some(Passing::Public),
            Self::Tenant => Some(Passing::Tenant),
        }
    }
}

impl Rules {
    /// Whether `user` may call.
    pub(crate) fn admit(&self, user: Uuid, directory: &Directory) -> bool {
        match &self.callers {
            Admitted::Anyone(organization) => directory.knows(user, *organization),
            Admitted::Only(callers) => callers.contains(&user),
        }
    }
}

/// The paths of the MCP transports: Streamable HTTP, and HTTP+SSE of MCP 2024-11-05.
pub(crate) fn is_mcp_path(path: &str) -> bool {
    matches!(path, "/mcp" | "/mcp/" | "/sse" | "/messages" | "/messages/")
}

/// Whether some server may take `path` for one of the MCP transports: there are those that decode
/// every escape, join slashes, drop segments, or do not mind letter case.
pub(crate) fn may_mean_mcp_path(path: &str) -> bool {
    if is_mcp_path(path) {
        return true;
    }
    let decoded = percent_decoded(path);
    let mut names = decoded
        .split(|byte| matches!(byte, b'/' | b'\\'))
        .filter_map(|segment| segment.split(|&byte| byte == b';').next())
        .filter(|name| !matches!(*name, b"" | b"."));
    // `..` may lead anywhere.
    if names.clone().any(|name| name == b"..") {
        return true;
    }
    names.next().is_some_and(is_endpoint_name) && names.next().is_none()
}

/// The first segment of the MCP paths, in any letter case.
fn is_endpoint_name(segment: &[u8]) -> bool {
    ["mcp", "sse", "messages"]
        .iter()
        .any(|name| segment.eq_ignore_ascii_case(name.as_bytes()))
}

/// Paths that need no token.
#[derive(Debug, Default)]
struct PublicPaths {
    exact: Vec<Box<str>>,
    /// Each with its slash at the end.
    below: Vec<Box<str>>,
}

impl PublicPaths {
    fn new(patterns: &[String]) -> Self {
        let mut paths = Self::default();
        for pattern in patterns {
            let (path, list) = match pattern.strip_suffix('*') {
                Some(path) if path.ends_with('/') => (path, &mut paths.below),
                _ => (pattern.as_str(), &mut paths.exact),
            };
            if is_normal(path) && !path.contains('*') {
                list.push(path.into());
            } else {
                tracing::warn!(
                    pattern,
                    "a public path is not written plainly and is ignored"
                );
            }
        }
        paths
    }

    fn contain(&self, path: &str) -> bool {
        let listed = self.exact.iter().any(|exact| **exact == *path)
            || self.below.iter().any(|above| path.starts_with(&**above));
        listed && is_normal(path) && !is_reserved(path)
    }
}

/// Whether a path has one reading only: what a server or a proxy might take for another path, by
/// decoding it, dropping segments or joining slashes, is not normal (RFC 3986 section 6.2.2).
fn is_normal(path: &str) -> bool {
    let Some(relative) = path.strip_prefix('/') else {
        return false;
    };
    let mut segments = relative.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        // Some servers drop what follows a semicolon before they look at dots.
        let name = segment.split(';').next().unwrap_or_default();
        if matches!(name, "." | "..") || (name.is_empty() && !(is_last && segment.is_empty())) {
            return false;
        }
    }
    path.bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && escapes_are_needed(path.as_bytes())
}

/// Whether every percent sign begins an escape of a byte that cannot stand for itself and means
/// nothing in a path.
fn escapes_are_needed(path: &[u8]) -> bool {
    let mut parts = path.split(|&byte| byte == b'%');
    parts.next();
    parts.all(|part| {
        let Some(digits) = part.get(..2).and_then(|two| std::str::from_utf8(two).ok()) else {
            return false;
        };
        u8::from_str_radix(digits, 16).is_ok_and(|byte| {
            !byte.is_ascii_alphanumeric()
                && !byte.is_ascii_control()
                && !matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b'\\' | b'%' | b';')
        })
    })
}

/// What no list opens: the MCP endpoint however a server spells it, and the documents by which
/// clients find an authorization server.
fn is_reserved(path: &str) -> bool {
    let begins = |with: &str| {
        path.get(..with.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    let first = path.split('/').nth(1).unwrap_or_default();
    let name = first.split(';').next().unwrap_or_default();
    is_endpoint_name(name.as_bytes())
        || begins("/.well-known/oauth-")
        || begins("/.well-known/openid-configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(patterns: &[&str]) -> PublicPaths {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        PublicPaths::new(&patterns)
    }

    #[test]
    fn a_path_is_open_as_it_is_written_or_below_a_star() {
        let paths = paths(&["/health", "/hooks/*", "/caf%C3%A9", "/a%20b"]);
        for open in [
            "/health",
            "/hooks/",
            "/hooks/a",
            "/hooks/a/b;v=1",
            "/hooks/a/",
            "/hooks/%C3%A9",
            "/hooks/...",
            "/caf%C3%A9",
            "/a%20b",
        ] {
            assert!(paths.contain(open), "{open}");
        }
        for closed in ["/", "/health/", "/Health", "/hooks", "/hooksx", "/healthz"] {
            assert!(!paths.contain(closed), "{closed}");
        }
    }

    #[test]
    fn no_spelling_leads_from_an_open_path_to_a_closed_one() {
        let paths = paths(&["/hooks/*"]);
        for path in [
            "/hooks/../mcp",
            "/hooks/./x",
            "/hooks//x",
            "/hooks//",
            "/hooks/%2e%2e/mcp",
            "/hooks/%2E%2E/mcp",
            "/hooks/.%2e/mcp",
            "/hooks/..%2fmcp",
            "/hooks/..%2Fmcp",
            "/hooks/%2e%2e%2fmcp",
            "/hooks/%252e%252e/mcp",
            "/hooks/..;/mcp",
            "/hooks/..;x=1/mcp",
            "/hooks/;/mcp",
            "/hooks/..%3b/mcp",
            "/hooks/..\\mcp",
            "/hooks/..%5cmcp",
            "/hooks/%61",
            "/hooks/%00",
            "/hooks/%0a",
            "/hooks/%",
            "/hooks/%2",
            "/hooks/%zz",
            "/hooks/%+1",
            "/hooks/é",
            "/hooks/..",
            "/hooks/.",
        ] {
            assert!(!paths.contain(path), "{path}");
        }
    }

    #[test]
    fn a_star_for_all_opens_neither_the_endpoint_nor_the_discovery() {
        let paths = paths(&["/*"]);
        assert!(paths.contain("/"));
        assert!(paths.contain("/anything"));
        for path in [
            "/mcp",
            "/MCP",
            "/mcp/",
            "/mcp/x",
            "/Mcp;v=1",
            "/sse",
            "/messages/x",
            "/.well-known/oauth-protected-resource",
            "/.well-known/OAuth-authorization-server/mcp",
            "/.well-known/openid-configuration",
        ] {
            assert!(!paths.contain(path), "{path}");
        }
    }

    #[test]
    fn the_endpoint_is_known_in_every_spelling_and_nothing_else_is() {
        for path in [
            "/mcp",
            "/MCP",
            "/%6Dcp",
            "//mcp",
            "/./mcp",
            "/mcp//",
            "/mcp;v=1",
            "/sse/",
            "/x/../mcp",
            "/x/%2e%2E/y",
            "/mcp%2F",
            "/Messages",
        ] {
            assert!(may_mean_mcp_path(path), "{path}");
        }
        for path in ["/", "/mcp/x", "/mcps", "/x/mcp", "/a%2Fb", "/%zz", "/..."] {
            assert!(!may_mean_mcp_path(path), "{path}");
        }
    }

    #[test]
    fn a_pattern_that_is_not_plain_opens_nothing() {
        let paths = paths(&["hooks", "/a/../b", "/x*", "/*/y", "", "*"]);
        for path in ["hooks", "/b", "/x", "/x1", "/z/y", "/"] {
            assert!(!paths.contain(path), "{path}");
        }
    }
}
