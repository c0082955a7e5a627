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
/// `None` when scopes were asked for and all are unknown.
pub(super) fn granted(asked: Option<&str>) -> Option<String> {
    let asked: Vec<&str> = asked.unwrap_or(SCOPE).split_ascii_whitespace().collect();
    if !asked.iter().any(|scope| SUPPORTED.contains(scope)) {
        return None;
    }
    let granted: Vec<&str> = SUPPORTED
        .iter()
        .copied()
        .filter(|scope| *scope == SCOPE || asked.contains(scope))
        .collect();
    Some(granted.join(" "))
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
        assert_eq!(granted(None).as_deref(), Some("mcp"));
        assert_eq!(granted(Some("mcp")).as_deref(), Some("mcp"));
        assert_eq!(
            granted(Some("offline_access mcp openid")).as_deref(),
            Some("mcp offline_access")
        );
        assert_eq!(
            granted(Some("offline_access")).as_deref(),
            Some("mcp offline_access")
        );
        assert_eq!(granted(Some("admin everything")), None);
    }
}
