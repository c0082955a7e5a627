//! Repositories that only some may read: the control plane gives a short-lived credential for the
//! fetch, and names the one origin that may get it.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outbound::{AllowedAddress, Reach};
use reqwest::header::HeaderValue;
use url::{Host, Url};

use crate::diagnose::{Code, diagnosis};
use crate::protocol::{Diagnosis, RepositoryAccess};

/// Who a token of an installation signs in as.
/// <https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/authenticating-as-a-github-app-installation>
const USER: &str = "x-access-token";

/// The address of such a repository, if it is one of the origin's.
pub(super) fn checked_url(text: &str, origin: &str) -> Result<Url, Diagnosis> {
    let invalid = || {
        diagnosis(
            Code::SourceUrlInvalid,
            "The repository's address is not one of the platform's GitHub.",
            "Choose the repository anew in the project's settings.",
        )
    };
    let url = Url::parse(text).map_err(|_| invalid())?;
    let origin = Url::parse(origin).map_err(|_| invalid())?;
    let safe = match url.scheme() {
        "https" => true,
        // In the clear on this machine only.
        "http" => is_loopback(&url),
        _ => false,
    };
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.path().len() > 1;
    if safe && plain && url.origin() == origin.origin() {
        Ok(url)
    } else {
        Err(invalid())
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// Reaches this one host, whatever its address: the operator named it.
pub(super) fn reach(url: &Url) -> Reach {
    let allowed = match url.host() {
        Some(Host::Ipv4(address)) => AllowedAddress::Network(std::net::IpAddr::V4(address).into()),
        Some(Host::Ipv6(address)) => AllowedAddress::Network(std::net::IpAddr::V6(address).into()),
        Some(Host::Domain(name)) => AllowedAddress::Host(name.to_owned()),
        None => return Reach::default(),
    };
    Reach::new(&[allowed])
}

/// The header that shows the credential; logs print it as `Sensitive`.
pub(super) fn header(access: &RepositoryAccess) -> anyhow::Result<HeaderValue> {
    let pair = STANDARD.encode(format!("{USER}:{}", access.token));
    let mut value =
        HeaderValue::try_from(format!("Basic {pair}")).context("the credential cannot be sent")?;
    value.set_sensitive(true);
    Ok(value)
}

/// Why there is no credential.
pub(super) fn refused() -> Diagnosis {
    diagnosis(
        Code::RepositoryNotFound,
        "The platform's GitHub App may not read this repository now.",
        "Add the repository to the App's installation at GitHub, see what the project's page says, and deploy again.",
    )
}

/// Why it could not be had.
pub(super) fn unavailable(why: &anyhow::Error) -> Diagnosis {
    diagnosis(
        Code::RepositoryUnreachable,
        format!("There is no credential to read the repository with: {why:#}"),
        "Deploy again in a few minutes; if it stays, the operator runs `berth doctor`.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_origin_that_was_named_gets_the_credential() {
        for (text, origin) in [
            ("https://github.com/a/b.git", "https://github.com"),
            ("http://127.0.0.1:9/a/b.git", "http://127.0.0.1:9"),
            ("http://localhost:9/a/b.git", "http://localhost:9"),
        ] {
            assert!(checked_url(text, origin).is_ok(), "{text}");
        }
        for (text, origin) in [
            ("https://evil.example/a/b.git", "https://github.com"),
            ("https://github.com:8443/a/b.git", "https://github.com"),
            ("https://github.com.evil.example/a", "https://github.com"),
            ("https://u:p@github.com/a/b.git", "https://github.com"),
            ("http://github.com/a/b.git", "http://github.com"),
            ("http://github.com/a/b.git", "https://github.com"),
            ("https://github.com/", "https://github.com"),
            ("file:///a", "file:///"),
        ] {
            assert!(checked_url(text, origin).is_err(), "{text}");
        }
    }

    #[test]
    fn a_credential_is_not_printed() {
        let access = RepositoryAccess {
            origin: "https://github.com".into(),
            token: "ghs_canary".into(),
        };
        let said = format!("{access:?} {:?}", header(&access).unwrap());
        assert!(!said.contains("canary"), "{said}");
    }
}
