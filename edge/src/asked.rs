//! What an instance is asked, and what is remembered of it until the answer comes.

use http::header::{HOST, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Uri};

use crate::access::{Access, Passing};
use crate::admit::Call;
use crate::client::Client;
use crate::cors;
use crate::headers::{self, Added};
use crate::server::Edge;
use crate::site::{Door, Site};
use crate::target::Target;

/// What is remembered of a request that has been passed on.
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// The host and the scheme as the client knows them.
    host: Option<HeaderValue>,
    scheme: &'static str,
    /// The path of the MCP endpoint, if that was asked for.
    endpoint: Option<&'static str>,
    pub(crate) opens_sse: bool,
}

impl Asked {
    /// Makes a request ready for its instance: takes out what is not the instance's, and gives the
    /// headers that tell it who calls and where.
    pub(crate) fn prepare(
        edge: &Edge,
        client: &Client,
        site: &Site,
        call: &Call,
        target: &Target,
        parts: &mut Parts,
    ) -> (Self, Added) {
        let origin = client.origin(&parts.headers, edge.scheme);
        let asked = Self {
            method: parts.method.clone(),
            host: parts.headers.get(HOST).cloned(),
            scheme: origin.scheme,
            endpoint: (call.passing != Passing::Tenant)
                .then(|| settle_slash(&mut parts.uri, target))
                .flatten(),
            opens_sse: parts.method == Method::GET && parts.uri.path() == "/sse",
        };
        let headers = &mut parts.headers;
        let known_as = (site.door == Door::Keys).then_some(&site.public_host);
        let mut added = headers::forward_request(headers, &origin, known_as, |name| {
            headers::is_credential(name, call.passing)
        });
        if matches!(call.passing, Passing::Public | Passing::Tenant) {
            headers::strip_api_token(headers);
        }
        let checked = target.local_host.is_some() && cors::is_allowed(headers, &site.origins);
        headers::tell_local_host(headers, target, checked);
        if let (Some(caller), Access::Platform(rules)) = (&call.caller, &*site.access) {
            edge.identity.introduce(caller, rules, site, &mut added);
        }
        (asked, added)
    }

    /// Sees to it that a redirect within the project stays within it as the client knows it.
    pub(crate) fn redirect<B>(&self, site: &Site, target: &Target, response: &mut Response<B>) {
        let keeps_method = matches!(
            response.status(),
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
        let headers = response.headers_mut();
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        if keeps_method && let (Some(endpoint), Some(location)) = (self.endpoint, location) {
            target.note_redirect(endpoint, location);
        }
        let Some(asked) = self.host.as_ref().and_then(|host| host.to_str().ok()) else {
            return;
        };
        // Where it was told the public host at the project's own door, that is what was asked for.
        let differs = site.door == Door::Keys || target.local_host.is_some();
        let told = [
            differs.then_some(&site.public_host),
            target.local_host.as_ref(),
        ]
        .map(|host| host?.to_str().ok());
        let address = target.local_host.is_some().then(|| target.address());
        let told = [told[0], told[1], address];
        headers::lead_home(headers, &told, asked, self.scheme);
    }
}

/// Asks for the MCP endpoint where the instance serves it, `/mcp` or `/mcp/`: a redirect between
/// them would lose the method or the scheme with some clients. Gives the path if it is one of them.
fn settle_slash(uri: &mut Uri, target: &Target) -> Option<&'static str> {
    if !matches!(uri.path(), "/mcp" | "/mcp/") {
        return None;
    }
    let endpoint = target.endpoint();
    if uri.path() != endpoint {
        let settled = match uri.query() {
            Some(query) => format!("{endpoint}?{query}").parse(),
            None => Ok(Uri::from_static(endpoint)),
        };
        *uri = settled.expect("the query was part of a valid target before");
    }
    Some(endpoint)
}
