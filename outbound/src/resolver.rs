//! A resolver that lets a connection see permitted addresses only.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::Reach;

/// Thrown by the resolver; found again in the error chain of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} resolves to {address}, which is not a public address")]
pub struct Forbidden {
    /// The name asked for.
    pub host: String,
    /// The first address that is not allowed.
    pub address: IpAddr,
}

impl Forbidden {
    /// This error in the chain of a request's error, if it is there.
    pub fn within(error: &reqwest::Error) -> Option<&Self> {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

/// The addresses of a name. A port of 0 stands for the one of the URL's scheme.
pub type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Where names are looked up.
pub trait Lookup: Send + Sync {
    /// The addresses of `host`.
    fn lookup(&self, host: String) -> Found;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: String) -> Found {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) })
    }
}

/// A name the operator has put in one place: neither looked up nor checked. Written
/// `name=ADDRESS:PORT`, for example `apps.inner=10.0.0.7:8443` or `apps.inner=[fd00::7]:443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedHost {
    /// The name, in lower case.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
}

impl FromStr for PinnedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "`{text}` is not of the form name=ADDRESS:PORT, such as apps.inner=10.0.0.7:443"
            )
        };
        let (name, address) = text.trim().split_once('=').ok_or_else(wrong)?;
        let Ok(url::Host::Domain(name)) = url::Host::parse(name) else {
            return Err(wrong());
        };
        let address = address.parse().map_err(|_| wrong())?;
        Ok(Self { name, address })
    }
}

impl std::fmt::Display for PinnedHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name, self.address)
    }
}

/// Lets a connection see permitted addresses only, so that what is checked is what is connected
/// to: a second answer of a rebinding name is checked as well.
#[derive(Clone)]
pub struct CheckedResolver {
    reach: Reach,
    pinned: Arc<[PinnedHost]>,
    lookup: Arc<dyn Lookup>,
}

impl CheckedResolver {
    /// Resolves through the system and gives out what `reach` permits.
    pub fn new(reach: Reach) -> Self {
        Self::with(reach, &[], Arc::new(SystemLookup))
    }

    /// Resolves through `lookup` and gives out what `reach` permits, and `pinned` names where
    /// they were put.
    pub fn with(reach: Reach, pinned: &[PinnedHost], lookup: Arc<dyn Lookup>) -> Self {
        Self {
            reach,
            pinned: pinned.into(),
            lookup,
        }
    }

    async fn addresses(&self, host: &str) -> Result<Vec<SocketAddr>, BoxedError> {
        let name = host.strip_suffix('.').unwrap_or(host);
        if let Some(pinned) = self
            .pinned
            .iter()
            .find(|pinned| pinned.name.eq_ignore_ascii_case(name))
        {
            return Ok(vec![pinned.address]);
        }
        let found = self.lookup.lookup(host.to_owned()).await?;
        if !self.reach.any_address_of(host) {
            // One private address among public ones is an attempt, not a mistake to work around.
            if let Some(bad) = found.iter().find(|found| !self.reach.permits(found.ip())) {
                let (host, address) = (host.to_owned(), bad.ip());
                return Err(Forbidden { host, address }.into());
            }
        }
        Ok(found)
    }
}

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = resolver.addresses(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::AllowedAddress;

    #[tokio::test]
    async fn names_that_resolve_to_loopback_are_refused() {
        let strict = CheckedResolver::new(Reach::default());
        let Err(error) = strict.resolve("localhost".parse().expect("a name")).await else {
            panic!("localhost must be refused");
        };
        let forbidden = error.downcast_ref::<Forbidden>().expect("the reason");
        assert_eq!(forbidden.host, "localhost");

        let open =
            CheckedResolver::new(Reach::new(&[AllowedAddress::Host("localhost".to_owned())]));
        assert!(
            open.resolve("localhost".parse().expect("a name"))
                .await
                .is_ok()
        );
    }

    #[test]
    fn pinned_hosts_are_read_and_written() {
        for (text, name, address) in [
            ("a.example=127.0.0.1:8443", "a.example", "127.0.0.1:8443"),
            (" A.Example=[::1]:443 ", "a.example", "[::1]:443"),
        ] {
            let pinned: PinnedHost = text.parse().expect(text);
            assert_eq!(
                (pinned.name.as_str(), pinned.address.to_string().as_str()),
                (name, address)
            );
            assert_eq!(pinned.to_string().parse(), Ok(pinned));
        }
        for text in [
            "",
            "a",
            "a=",
            "=1.2.3.4:5",
            "a=1.2.3.4",
            "a=b:443",
            "1.2.3.4=1.2.3.4:5",
            "a b=1.2.3.4:5",
        ] {
            assert!(text.parse::<PinnedHost>().is_err(), "{text}");
        }
    }
}
