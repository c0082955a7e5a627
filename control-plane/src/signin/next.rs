//! Where to go after signing in: a path of ours and nothing else, or it would be an open redirect.

use url::Url;

/// Longest path that is kept; an authorization request with a long state fits.
const MAX_LENGTH: usize = 8_000;

/// `next` when it is a path on this platform, else the start page.
pub fn safe(next: Option<&str>) -> &str {
    next.filter(|next| is_local_path(next)).unwrap_or("/")
}

/// `/signin` that comes back to `path_and_query`.
pub fn signin_url(path_and_query: &str) -> String {
    if path_and_query == "/" || !is_local_path(path_and_query) {
        return "/signin".to_owned();
    }
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("next", path_and_query)
        .finish();
    format!("/signin?{query}")
}

fn is_local_path(text: &str) -> bool {
    // Browsers read `//host` and `/\host` as another host, and skip tabs and newlines.
    if text.len() > MAX_LENGTH
        || !text.starts_with('/')
        || !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
    {
        return false;
    }
    let base = Url::parse("http://here.invalid").expect("a constant URL parses");
    base.join(text)
        .is_ok_and(|url| url.host_str() == Some("here.invalid") && !url.path().starts_with("//"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_ours_are_followed() {
        for good in [
            "/",
            "/projects/a?x=1#y",
            "/oauth/authorize?redirect_uri=http%3A%2F%2Fx",
        ] {
            assert_eq!(safe(Some(good)), good);
        }
        for bad in [
            "",
            "x",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/ok\r\nSet-Cookie: a=b",
            "/\u{2028}",
            "/.//evil.example",
            "/a/..//evil.example",
        ] {
            assert_eq!(safe(Some(bad)), "/", "{bad:?}");
        }
        assert_eq!(safe(None), "/");
        assert_eq!(signin_url("/a?b=c&d"), "/signin?next=%2Fa%3Fb%3Dc%26d");
        assert_eq!(signin_url("//x"), "/signin");
    }
}
