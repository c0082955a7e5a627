//! Which public paths and origins can be meant.

use url::Url;

use crate::error::{Result, invalid};

/// Most public paths, and most origins, of a project. Edges compare every request with them, and
/// a list that long wants a prefix.
const MOST: usize = 50;

/// Longest public path, bytes: far more than a health check or a webhook needs.
const MAX_PATH: usize = 200;

/// First segments of the paths by which MCP is spoken (Streamable HTTP; HTTP+SSE of 2024-11-05).
/// These always need a token in platform mode.
const MCP_SEGMENTS: [&str; 3] = ["mcp", "sse", "messages"];

/// Beginnings of paths by which clients find the authorization server (RFC 9728, RFC 8414).
const OWN_DOCUMENTS: [&str; 2] = ["/.well-known/oauth-", "/.well-known/openid-configuration"];

/// What a path may hold besides letters and digits: the unreserved characters of RFC 3986 section
/// 2.3 and what needs no escape in a path. No escapes and no semicolons: `/%6dcp` and `/mcp;x` must
/// not pass for another path.
const PATH_MARKS: &[u8] = b"/-._~!$&'()+,=:@";

/// The public paths as they are kept: trimmed, without empty lines and repetitions.
pub(super) fn paths(given: &[String]) -> Result<Vec<String>> {
    list("public_paths", given, |path| {
        check_path(path).map(|()| path.to_owned())
    })
}

/// The origins as browsers write them, without empty lines and repetitions.
pub(super) fn origins(given: &[String]) -> Result<Vec<String>> {
    list("allowed_origins", given, check_origin)
}

fn list(
    field: &'static str,
    given: &[String],
    check: impl Fn(&str) -> Result<String, String>,
) -> Result<Vec<String>> {
    let mut kept: Vec<String> = Vec::new();
    for line in given {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let checked = check(line).map_err(|sentence| invalid(field, sentence))?;
        if !kept.contains(&checked) {
            kept.push(checked);
        }
    }
    if kept.len() > MOST {
        let sentence = format!("{MOST} lines are the most here; leave some out.");
        return Err(invalid(field, sentence));
    }
    Ok(kept)
}

fn check_path(path: &str) -> Result<(), String> {
    let Some(inside) = path.strip_prefix('/') else {
        return Err(format!(
            "“{path}” does not begin with /; write it as /{path}."
        ));
    };
    let exact = inside.strip_suffix('*').unwrap_or(inside);
    if exact.len() < inside.len() {
        if exact.is_empty() {
            return Err(
                "“/*” would open everything; choose the mode “public” if that is meant.".into(),
            );
        }
        if !exact.ends_with('/') {
            return Err(format!(
                "In “{path}” the * must stand after a /, as in /hooks/*."
            ));
        }
    }
    if exact.contains('*') {
        return Err(format!(
            "In “{path}” the * may stand at the end only, as in /hooks/*."
        ));
    }
    let plain = path.len() <= MAX_PATH
        && exact
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || PATH_MARKS.contains(&byte));
    if !plain {
        return Err(format!(
            "“{path}” holds what no public path may: write a path of at most {MAX_PATH} letters, digits and plain \
             marks, without query, escapes and spaces."
        ));
    }
    let segments: Vec<&str> = exact
        .strip_suffix('/')
        .unwrap_or(exact)
        .split('/')
        .collect();
    let has_gaps =
        segments.len() > 1 && segments.iter().any(|segment| segment.is_empty()) || exact == "/";
    if has_gaps
        || segments
            .iter()
            .any(|segment| matches!(*segment, "." | ".."))
    {
        return Err(format!(
            "“{path}” has empty or dotted parts; write the path as the server sees it."
        ));
    }
    if MCP_SEGMENTS
        .iter()
        .any(|mcp| segments[0].eq_ignore_ascii_case(mcp))
    {
        return Err(format!(
            "“{path}” is where MCP is spoken and needs a token; choose the mode “public” to open it to everyone."
        ));
    }
    let lower = path.to_ascii_lowercase();
    if OWN_DOCUMENTS.iter().any(|own| lower.starts_with(own)) {
        return Err(format!(
            "“{path}” is where clients ask how to sign in, which Berth answers; choose the mode “tenant” if the \
             server is to answer."
        ));
    }
    Ok(())
}

fn check_origin(text: &str) -> Result<String, String> {
    const EXAMPLE: &str = "write it as https://app.example.com";
    if text == "*" {
        return Err(format!(
            "“*” would let every web page call; name each origin: {EXAMPLE}."
        ));
    }
    let parsed = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    });
    // The parser forgives what no browser writes; the end may be a slash, and nothing else.
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'*' | b'@'))
        && text
            .split_once("://")
            .is_some_and(|(_, rest)| !rest.trim_end_matches('/').contains('/'));
    match parsed {
        Some(url) if plain => Ok(url.origin().ascii_serialization()),
        _ => Err(format!(
            "“{text}” is no origin; {EXAMPLE}, with the port if it has one and without a path."
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Result<(), String> {
        check_path(text)
    }

    #[test]
    fn public_paths_are_exact_or_all_below() {
        for good in [
            "/",
            "/health",
            "/health/",
            "/hooks/*",
            "/a/b.c/*",
            "/.well-known/x",
            "/mcp-docs",
            "/messages-archive/x",
            "/a:b@c",
        ] {
            assert_eq!(path(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn public_paths_that_could_open_more_are_refused() {
        for (bad, says) in [
            ("health", "does not begin with /"),
            ("https://x/health", "does not begin with /"),
            ("/*", "would open everything"),
            ("/hooks*", "must stand after a /"),
            ("/a/*/b", "at the end only"),
            ("/a/**", "must stand after a /"),
            ("/**", "must stand after a /"),
            ("/a?x=1", "holds what no public path may"),
            ("/a#b", "holds what no public path may"),
            ("/a b", "holds what no public path may"),
            ("/%6dcp", "holds what no public path may"),
            ("/a\\b", "holds what no public path may"),
            ("/mcp;x", "holds what no public path may"),
            ("/ü", "holds what no public path may"),
            ("/a\u{0}", "holds what no public path may"),
            ("//mcp", "empty or dotted"),
            ("//", "empty or dotted"),
            ("/a//b", "empty or dotted"),
            ("/a//", "empty or dotted"),
            ("/a//*", "empty or dotted"),
            ("/./mcp", "empty or dotted"),
            ("/x/../mcp", "empty or dotted"),
            ("/..", "empty or dotted"),
            ("/../*", "empty or dotted"),
            ("/mcp", "where MCP is spoken"),
            ("/mcp/", "where MCP is spoken"),
            ("/mcp/*", "where MCP is spoken"),
            ("/MCP", "where MCP is spoken"),
            ("/mcp/tools", "where MCP is spoken"),
            ("/sse", "where MCP is spoken"),
            ("/messages/*", "where MCP is spoken"),
            ("/messages", "where MCP is spoken"),
            ("/.well-known/oauth-protected-resource", "Berth answers"),
            (
                "/.well-known/OAuth-authorization-server/mcp",
                "Berth answers",
            ),
            ("/.well-known/openid-configuration", "Berth answers"),
        ] {
            let sentence = path(bad).expect_err(bad);
            assert!(sentence.contains(says), "{bad}: {sentence}");
        }
        assert!(path(&format!("/{}", "a".repeat(MAX_PATH))).is_err());
    }

    #[test]
    fn origins_are_kept_as_browsers_write_them() {
        for (given, kept) in [
            ("https://app.example.com", "https://app.example.com"),
            ("https://APP.example.com/", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("http://localhost:6274", "http://localhost:6274"),
            ("http://[::1]:3000", "http://[::1]:3000"),
        ] {
            assert_eq!(check_origin(given).as_deref(), Ok(kept), "{given}");
        }
        for bad in [
            "*",
            "null",
            "app.example.com",
            "https://",
            "https://*.example.com",
            "https://a.example/x",
            "https://a.example?x",
            "https://a.example#x",
            "https://u@a.example",
            "https://u:p@a.example",
            "ftp://a.example",
            "file:///x",
            "javascript:alert(1)",
            "https://a.example\\x",
            "https://a b",
            "https:a.example",
            "https://a.example//",
            "https://a.example/..",
        ] {
            assert!(check_origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_are_trimmed_and_bounded() {
        let lines = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            paths(&lines(&[" /a ", "", "/a", "/b"])).unwrap(),
            ["/a", "/b"]
        );
        let many: Vec<String> = (0..=MOST).map(|n| format!("/p{n}")).collect();
        assert!(
            paths(&many)
                .unwrap_err()
                .to_string()
                .contains("are the most")
        );
        assert!(paths(&many[1..]).is_ok());
    }
}
