//! Scopes: `mcp` to call a project, `offline_access` to be given a refresh token, and `api`, which
//! only `berth login` is given.

use crate::clients::Client;
use crate::routes::SCOPE;

/// Asks for a refresh token (OpenID Connect Core section 11).
pub(super) const OFFLINE_ACCESS: &str = "offline_access";

/// Everything that the API does. It comes with the API as resource, asked for or not, and is
/// therefore not announced.
pub(super) const API: &str = "api";

/// What may be asked for.
pub(super) const SUPPORTED: &[&str] = &[SCOPE, OFFLINE_ACCESS];

/// What is granted for what was asked: unknown scopes are left out, which the answer says
/// (RFC 6749 section 3.3), and `mcp` is always in, since a token without it is good for nothing.
/// Each request is granted what it asks for: a client that steps up asks for what it had and more.
pub(super) fn granted(asked: Option<&str>) -> String {
    let asked: Vec<&str> = asked.unwrap_or_default().split_ascii_whitespace().collect();
    let granted: Vec<&str> = SUPPORTED
        .iter()
        .copied()
        .filter(|scope| *scope == SCOPE || asked.contains(scope))
        .collect();
    granted.join(" ")
}

/// What a refreshed access token gets: fewer scopes if fewer were asked for (RFC 6749 section 6),
/// and never more than the grant has. The refresh token keeps them all.
pub(super) fn narrowed(asked: Option<&str>, granted: &str) -> String {
    let asked: Vec<&str> = asked.unwrap_or_default().split_ascii_whitespace().collect();
    let kept: Vec<&str> = granted
        .split(' ')
        .filter(|scope| asked.contains(scope))
        .collect();
    if kept.is_empty() {
        granted.to_owned()
    } else {
        kept.join(" ")
    }
}

/// Scopes in words, for the person who is asked.
pub(super) fn in_words(scope: &str, project: &str) -> Vec<String> {
    scope
        .split(' ')
        .filter_map(|scope| match scope {
            SCOPE => Some(format!(
                "use the tools, resources and prompts of {project} in your name"
            )),
            OFFLINE_ACCESS => Some("do so while you are away, until you disconnect it".to_owned()),
            _ => None,
        })
        .collect()
}

/// Whether a client is given a refresh token: it registered for it, or asked for it now.
pub(super) fn gives_refresh_token(client: &Client, granted: &str) -> bool {
    client.allows("refresh_token") || granted.split(' ').any(|scope| scope == OFFLINE_ACCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_left_out() {
        for (asked, given) in [
            (None, "mcp"),
            (Some(""), "mcp"),
            (Some("mcp"), "mcp"),
            (Some("offline_access mcp openid"), "mcp offline_access"),
            (Some("offline_access"), "mcp offline_access"),
            (Some("admin everything api"), "mcp"),
        ] {
            assert_eq!(granted(asked), given, "{asked:?}");
        }
    }

    #[test]
    fn a_refresh_may_narrow_and_never_widen() {
        for (asked, had, given) in [
            (None, "mcp offline_access", "mcp offline_access"),
            (Some("mcp"), "mcp offline_access", "mcp"),
            (
                Some("offline_access"),
                "mcp offline_access",
                "offline_access",
            ),
            (Some("mcp offline_access"), "mcp", "mcp"),
            (Some("other"), "mcp", "mcp"),
        ] {
            assert_eq!(narrowed(asked, had), given, "{asked:?} of {had}");
        }
    }
}
