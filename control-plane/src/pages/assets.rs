//! Styles, scripts and icons, built into the binary. The name a page asks for holds the content's
//! hash, so a browser keeps it for good and a new release is a new name.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::PageError;
use crate::crypto::hex;
use crate::error::Error;

/// Digits of the hash in a name: 64 bits, so that two releases never share one by chance.
const HASH_DIGITS: usize = 16;

/// RFC 8246: a browser need not even ask whether it is still the same.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";

/// Under a name without hash the content may change with every release.
const FOR_A_MOMENT: &str = "public, max-age=300";

const SVG: &str = "image/svg+xml";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The files: stem, extension, type, bytes.
const FILES: [(&str, &str, &str, &[u8]); 5] = [
    (
        "berth",
        "css",
        STYLE,
        include_bytes!("../../../web/css/berth.css"),
    ),
    (
        "berth",
        "js",
        SCRIPT,
        include_bytes!("../../../web/js/berth.js"),
    ),
    (
        "log",
        "js",
        SCRIPT,
        include_bytes!("../../../web/js/log.js"),
    ),
    (
        "htmx.min",
        "js",
        SCRIPT,
        include_bytes!("../../../web/js/htmx.min.js"),
    ),
    (
        "berth",
        "svg",
        SVG,
        include_bytes!("../../../web/icons/berth.svg"),
    ),
];

struct Asset {
    plain_name: String,
    hashed_name: String,
    url: String,
    etag: HeaderValue,
    kind: &'static str,
    bytes: &'static [u8],
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    FILES
        .iter()
        .map(|&(stem, extension, kind, bytes)| {
            let hash = hex(digest::digest(&digest::SHA256, bytes).as_ref());
            let hash = &hash[..HASH_DIGITS];
            let hashed_name = format!("{stem}.{hash}.{extension}");
            Asset {
                plain_name: format!("{stem}.{extension}"),
                url: format!("/static/{hashed_name}"),
                etag: HeaderValue::try_from(format!("\"{hash}\""))
                    .expect("hex digits are a header's"),
                hashed_name,
                kind,
                bytes,
            }
        })
        .collect()
});

/// Where a page finds the file `name`, for example `berth.css`. Panics on a name that is not in
/// the table, which any test that renders the page shows.
pub fn url(name: &str) -> &'static str {
    let asset = ASSETS.iter().find(|asset| asset.plain_name == name);
    &asset.expect("templates name files of the table").url
}

/// `GET /static/{name}`
pub async fn serve(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match ASSETS
        .iter()
        .find(|asset| asset.hashed_name == name || asset.plain_name == name)
    {
        Some(asset) => answer(asset, asset.hashed_name == name, &headers),
        None => PageError(Error::NotFound("file")).into_response(),
    }
}

/// `GET /favicon.ico`, which browsers ask for unasked.
pub async fn favicon(headers: HeaderMap) -> Response {
    let icon = ASSETS
        .iter()
        .find(|asset| asset.kind == SVG)
        .expect("the icon is in the table");
    answer(icon, false, &headers)
}

fn answer(asset: &Asset, for_good: bool, headers: &HeaderMap) -> Response {
    let cache = if for_good { FOR_GOOD } else { FOR_A_MOMENT };
    let fixed = [
        (header::ETAG, asset.etag.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static(cache)),
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
    ];
    if headers.get(header::IF_NONE_MATCH) == Some(&asset.etag) {
        return (StatusCode::NOT_MODIFIED, fixed).into_response();
    }
    (fixed, asset.bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hashed_name_is_kept_for_good_and_a_plain_one_is_not() {
        let hashed = url("berth.css")
            .strip_prefix("/static/")
            .unwrap()
            .to_owned();
        let answer = serve(Path(hashed), HeaderMap::new()).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()[header::CACHE_CONTROL], FOR_GOOD);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], STYLE);

        let mut again = HeaderMap::new();
        again.insert(
            header::IF_NONE_MATCH,
            answer.headers()[header::ETAG].clone(),
        );
        let answer = serve(Path("berth.css".into()), again).await;
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(answer.headers()[header::CACHE_CONTROL], FOR_A_MOMENT);
    }

    #[tokio::test]
    async fn other_names_are_not_found() {
        for name in ["berth.0000000000000000.css", "../Cargo.toml", "", "berth"] {
            assert_eq!(
                serve(Path(name.into()), HeaderMap::new()).await.status(),
                StatusCode::NOT_FOUND,
                "{name}"
            );
        }
    }
}
