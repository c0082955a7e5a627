//! How long an answer stays good by its own word (RFC 9111 sections 4.2.1 and 5.2.2).

use std::time::Duration;

use reqwest::header::{AGE, CACHE_CONTROL, DATE, EXPIRES, HeaderMap, HeaderName};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// How long an answer with these headers is fresh from now on; `None` when it does not say. What
/// must not be stored or not be used again is fresh for no time.
pub fn of(headers: &HeaderMap) -> Option<Duration> {
    let directives = || {
        headers
            .get_all(CACHE_CONTROL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|directive| directive.trim().to_ascii_lowercase())
    };
    let says = |name: &str| directives().any(|d| d.split('=').next() == Some(name));
    if says("no-store") || says("no-cache") {
        return Some(Duration::ZERO);
    }
    let seconds = |name: &str| {
        directives().find_map(|directive| {
            let (key, value) = directive.split_once('=')?;
            (key == name).then(|| value.trim_matches('"').parse::<u32>().ok())?
        })
    };
    // We hold one copy for everybody, so the lifetime for shared caches goes first.
    if let Some(lifetime) = seconds("s-maxage").or_else(|| seconds("max-age")) {
        let age = text(headers, &AGE).and_then(|age| age.parse::<u32>().ok());
        let rest = lifetime.saturating_sub(age.unwrap_or(0));
        return Some(Duration::from_secs(rest.into()));
    }
    let expires = text(headers, &EXPIRES)?;
    // An unreadable date is one in the past (section 5.3).
    let lifetime = date(expires).zip(text(headers, &DATE).and_then(date));
    let lifetime = lifetime.and_then(|(expires, now)| Duration::try_from(expires - now).ok());
    Some(lifetime.unwrap_or_default())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn date(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc2822).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(headers: &[(&'static str, &'static str)]) -> Option<u64> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        of(&map).map(|fresh| fresh.as_secs())
    }

    #[test]
    fn lifetimes_are_read_as_http_writes_them() {
        const CC: &str = "cache-control";
        for (headers, expected) in [
            (&[][..], None),
            (&[(CC, "max-age=600")], Some(600)),
            (&[(CC, "public, Max-Age=\"600\"")], Some(600)),
            (&[(CC, "public"), (CC, "max-age=7")], Some(7)),
            (&[(CC, "max-age=600"), ("age", "500")], Some(100)),
            (&[(CC, "max-age=600"), ("age", "900")], Some(0)),
            (&[(CC, "max-age=600, s-maxage=60")], Some(60)),
            (&[(CC, "no-store, max-age=600")], Some(0)),
            (&[(CC, "no-cache")], Some(0)),
            (&[(CC, "max-age=-1")], None),
            (&[(CC, "max-age=99999999999999")], None),
            (&[(CC, "public")], None),
            (
                &[
                    ("date", "Sun, 22 Nov 2026 12:00:00 GMT"),
                    ("expires", "Sun, 22 Nov 2026 13:00:00 GMT"),
                ],
                Some(3600),
            ),
            (&[("expires", "0")], Some(0)),
            (
                &[
                    ("date", "Sun, 22 Nov 2026 12:00:00 GMT"),
                    ("expires", "Sun, 22 Nov 2026 11:00:00 GMT"),
                ],
                Some(0),
            ),
        ] {
            assert_eq!(fresh(headers), expected, "{headers:?}");
        }
    }
}
