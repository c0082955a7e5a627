//! What clients say of themselves (RFC 7591 section 2): read the same way, whether it was sent in
//! a registration or fetched from the client's own address.

use serde_json::{Map, Value};

use super::{AuthMethod, keys, redirect_uri};

/// Redirect URIs of one client. The most known is four.
pub const MAX_REDIRECT_URIS: usize = 20;

/// Characters of a name that are kept.
const MAX_NAME: usize = 80;

/// Why a client's word cannot be used (RFC 7591 section 3.2.2). The text goes on after "the
/// client's metadata is wrong: ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// One of its redirect URIs, or that there is none.
    RedirectUri(String),
    /// Anything else.
    Other(&'static str),
}

/// Where a client's public keys are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keys {
    /// Given right there (RFC 7517).
    pub jwks: Option<Value>,
    /// At this URL.
    pub jwks_uri: Option<String>,
}

/// What is kept of a client's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What it calls itself, if it does.
    pub name: Option<String>,
    /// Where answers may go, each checked.
    pub redirect_uris: Vec<String>,
    /// Those of its grant types that we know.
    pub grant_types: Vec<String>,
}

impl Metadata {
    /// Reads it. Members that are unknown, or that do not matter here, are ignored.
    pub fn read(sent: &Map<String, Value>) -> Result<Self, Wrong> {
        Ok(Self {
            name: read_name(sent.get("client_name").and_then(Value::as_str)),
            redirect_uris: read_redirect_uris(sent)?,
            grant_types: read_grant_types(sent)?,
        })
    }
}

/// A name people can read: one line, without characters that turn or hide text.
pub fn read_name(sent: Option<&str>) -> Option<String> {
    let hides = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    let name: String = sent?
        .chars()
        .filter(|c| !hides(*c))
        .take(MAX_NAME)
        .collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

fn read_redirect_uris(sent: &Map<String, Value>) -> Result<Vec<String>, Wrong> {
    let wrong = |why: &str| Wrong::RedirectUri(why.to_owned());
    let uris: Option<Vec<String>> = sent
        .get("redirect_uris")
        .and_then(Value::as_array)
        .and_then(|uris| {
            uris.iter()
                .map(|uri| uri.as_str().map(str::to_owned))
                .collect()
        });
    let uris = uris
        .filter(|uris| !uris.is_empty())
        .ok_or_else(|| wrong("redirect_uris must name at least one URI"))?;
    if uris.len() > MAX_REDIRECT_URIS {
        return Err(wrong("redirect_uris names more than 20 URIs"));
    }
    for (index, uri) in uris.iter().enumerate() {
        // By its place and not its text, which may be anything.
        redirect_uri::check(uri).map_err(|why| {
            Wrong::RedirectUri(format!("redirect URI number {} {why}", index + 1))
        })?;
    }
    Ok(uris)
}

/// Those we know of those named (RFC 7591 section 3.2.1 lets us); both when none were named.
fn read_grant_types(sent: &Map<String, Value>) -> Result<Vec<String>, Wrong> {
    let known = ["authorization_code", "refresh_token"];
    let strings = |name: &str| -> Option<Vec<&str>> {
        sent.get(name)
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_str).collect())
    };
    if strings("response_types").is_some_and(|types| !types.is_empty() && !types.contains(&"code"))
    {
        return Err(Wrong::Other("response_types must have code in it"));
    }
    let asked = strings("grant_types")
        .filter(|types| !types.is_empty())
        .unwrap_or_else(|| known.to_vec());
    if !asked.contains(&"authorization_code") {
        return Err(Wrong::Other(
            "grant_types must have authorization_code in it",
        ));
    }
    Ok(known
        .iter()
        .filter(|grant| asked.contains(*grant))
        .map(ToString::to_string)
        .collect())
}

/// The keys of a client that says `private_key_jwt`: in one of two places (RFC 7591 section 2).
pub fn read_keys(sent: &Map<String, Value>) -> Result<Keys, Wrong> {
    let present = |name: &str| sent.get(name).filter(|value| !value.is_null());
    match (present("jwks"), present("jwks_uri")) {
        (Some(jwks), None) => {
            keys::check(jwks).map_err(Wrong::Other)?;
            Ok(Keys {
                jwks: Some(jwks.clone()),
                jwks_uri: None,
            })
        }
        (None, Some(uri)) => {
            let uri = uri
                .as_str()
                .filter(|uri| outbound::check_url(uri).is_ok())
                .ok_or(Wrong::Other(
                    "jwks_uri must be an https URL with a host name, and without port, user and fragment",
                ))?;
            Ok(Keys {
                jwks: None,
                jwks_uri: Some(uri.to_owned()),
            })
        }
        (Some(_), Some(_)) => Err(Wrong::Other("name jwks or jwks_uri, not both")),
        (None, None) => Err(Wrong::Other("private_key_jwt needs jwks or jwks_uri")),
    }
}

/// A whole description, as a client publishes it (Client ID Metadata Document, draft section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// What it has in common with a registration.
    pub metadata: Metadata,
    /// `none` or `private_key_jwt`.
    pub auth_method: AuthMethod,
    /// Its keys, with `private_key_jwt`.
    pub keys: Keys,
}

impl Description {
    /// Reads the document that was found at the URL `id`.
    pub fn read(id: &str, document: &Value) -> Result<Self, Wrong> {
        let sent = document
            .as_object()
            .ok_or(Wrong::Other("it is not a JSON object"))?;
        // The simple string comparison of RFC 3986 section 6.2.1.
        if sent.get("client_id").and_then(Value::as_str) != Some(id) {
            return Err(Wrong::Other(
                "its client_id is not exactly the URL it was found at",
            ));
        }
        if sent.keys().any(|name| name.starts_with("client_secret")) {
            return Err(Wrong::Other(
                "it holds a client_secret, which everybody could read",
            ));
        }
        let auth_method = match sent.get("token_endpoint_auth_method") {
            None | Some(Value::Null) => AuthMethod::None,
            Some(Value::String(name)) if name == "none" => AuthMethod::None,
            Some(Value::String(name)) if name == "private_key_jwt" => AuthMethod::PrivateKeyJwt,
            Some(_) => {
                return Err(Wrong::Other(
                    "its token_endpoint_auth_method must be none or private_key_jwt",
                ));
            }
        };
        Ok(Self {
            metadata: Metadata::read(sent)?,
            auth_method,
            keys: if auth_method == AuthMethod::PrivateKeyJwt {
                read_keys(sent)?
            } else {
                Keys::default()
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_readable_line() {
        let name = |text| read_name(Some(text));
        assert_eq!(name("Claude").as_deref(), Some("Claude"));
        assert_eq!(name("  a\nb\u{202e}c\u{200b} ").as_deref(), Some("abc"));
        assert_eq!(name(" \t "), None);
        assert_eq!(read_name(None), None);
        assert_eq!(
            name(&"x".repeat(500)).map(|name| name.len()),
            Some(MAX_NAME)
        );
    }
}
