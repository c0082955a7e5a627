//! Resource indicators (RFC 8707): which project a token is for, or that it is for the API.

use sqlx::PgConnection;
use url::Url;

use crate::access::{self, Mode};
use crate::app::App;
use crate::config::ServeConfig;
use crate::error::Result;
use crate::previews;
use crate::projects::{self, Project};

/// Why a project whose access mode is not `platform` is no resource of ours.
const NO_TOKENS: &str = "this MCP server takes no tokens of this authorization server; connect to it without signing in here, or as its own metadata says";

/// The host label that a resource names: a project's name, or that of a preview
/// ([`previews::label`]). Clients write a project's URL in four ways, all of which
/// mean the same: `https://P.D`, `https://P.D/`, `https://P.D/mcp` and `https://P.D/mcp/`, with
/// scheme and host in any letter case and the scheme's own port given or not.
pub(super) fn label(config: &ServeConfig, resource: &str) -> Option<String> {
    // Before the parser, which forgives spaces, backslashes and dots in paths.
    if !resource
        .bytes()
        .all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'@' | b'#' | b'?' | b'%'))
    {
        return None;
    }
    let (_, after_scheme) = resource.split_once("://")?;
    let path = after_scheme.find('/').map_or("", |at| &after_scheme[at..]);
    if !matches!(path, "" | "/" | "/mcp" | "/mcp/") {
        return None;
    }
    let url = Url::parse(resource).ok()?;
    let same_place = url.scheme() == config.url.scheme()
        && url.port_or_known_default() == config.url.port_or_known_default();
    let label = url
        .host_str()?
        .strip_suffix(&config.apps_domain)?
        .strip_suffix('.')?;
    let is_label = !label.is_empty() && !label.contains('.');
    (same_place && is_label).then(|| label.to_owned())
}

/// The project that a resource names, itself or by one of its previews.
pub(super) fn project_name(config: &ServeConfig, resource: &str) -> Option<String> {
    let label = label(config, resource)?;
    Some(match previews::parts(&label) {
        Some((name, _)) => name.to_owned(),
        None => label,
    })
}

/// An MCP server of ours: a project's, or that of one of its previews.
#[derive(Debug)]
pub(super) struct Server {
    /// The project, by which it is decided who may call.
    pub(super) project: Project,
    /// The audience of its tokens, in our one spelling: those of a project are not good at its
    /// previews, nor those of a preview elsewhere.
    pub(super) resource: String,
}

/// The server that a request names, or why no token of it can be had: `invalid_target` (RFC 8707
/// section 2).
pub(super) async fn find_server(
    app: &App,
    db: &mut PgConnection,
    resource: Option<&str>,
) -> Result<Result<Server, &'static str>> {
    let Some(resource) = resource else {
        return Ok(Err(
            "resource is missing; send the URL of the MCP server, for example https://project.example.net/mcp (RFC 8707)",
        ));
    };
    let label = label(&app.config, resource);
    let found = match &label {
        Some(label) => find(db, label).await?,
        None => None,
    };
    let (Some(project), Some(label)) = (found, label) else {
        return Ok(Err("resource is no MCP server of this platform"));
    };
    if access::mode_of(db, project.id).await? != Mode::Platform {
        return Ok(Err(NO_TOKENS));
    }
    Ok(Ok(Server {
        resource: app.config.project_url(&label),
        project,
    }))
}

/// The project of a host label; of a preview only while that is open.
async fn find(db: &mut PgConnection, label: &str) -> Result<Option<Project>> {
    let Some((name, slug)) = previews::parts(label) else {
        return Ok(projects::find_by_name(db, label).await?);
    };
    let Some(project) = projects::find_by_name(db, name).await? else {
        return Ok(None);
    };
    let preview = previews::find(db, project.id, slug).await?;
    let is_open = preview.is_some_and(|preview| preview.state == previews::State::Open);
    Ok(is_open.then_some(project))
}

/// The API as a resource. It has this spelling only: its one client is ours.
pub(super) fn api(config: &ServeConfig) -> String {
    format!("{}/api/v1", config.issuer())
}

/// A resource in our one spelling: the URL of a project or a preview, or [`api`]. `None` when it is neither.
/// Whether there is such a project is not looked at.
pub(super) fn canonical(config: &ServeConfig, resource: &str) -> Option<String> {
    if resource == api(config) {
        return Some(resource.to_owned());
    }
    label(config, resource).map(|label| config.project_url(&label))
}

/// Whether a resource names the same as `canonical`: a project's own URL, or [`api`].
pub(super) fn is_same(config: &ServeConfig, resource: &str, canonical: &str) -> bool {
    self::canonical(config, resource).as_deref() == Some(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_four_spellings_name_the_project_and_nothing_else_does() {
        let local = testing::config(&[]);
        for good in [
            "http://hello.localhost:8080",
            "http://hello.localhost:8080/",
            "http://hello.localhost:8080/mcp",
            "http://hello.localhost:8080/mcp/",
            "HTTP://Hello.LocalHost:8080/mcp",
        ] {
            assert_eq!(
                project_name(&local, good).as_deref(),
                Some("hello"),
                "{good}"
            );
            assert!(is_same(&local, good, "http://hello.localhost:8080/mcp"));
            assert!(!is_same(&local, good, &api(&local)));
        }
        for bad in [
            "",
            "hello",
            "hello.localhost:8080/mcp",
            "http://hello.localhost/mcp",
            "http://hello.localhost:8081/mcp",
            "https://hello.localhost:8080/mcp",
            "http://localhost:8080/mcp",
            "http://.localhost:8080/mcp",
            "http://a.hello.localhost:8080/mcp",
            "http://hello.localhost.evil.example:8080/mcp",
            "http://hellolocalhost:8080/mcp",
            "http://hello.localhost:8080/mcp?x=1",
            "http://hello.localhost:8080/mcp#x",
            "http://user@hello.localhost:8080/mcp",
            "http://hello.localhost:8080/other",
            "http://hello.localhost:8080//mcp",
            "http://hello.localhost:8080/x/../mcp",
            " http://hello.localhost:8080/mcp",
            "http://hello.localhost:8080\\mcp",
            "http://hell%6f.localhost:8080/mcp",
            "http://hello.localhost:8080/mc\tp",
            "http:hello.localhost:8080/mcp",
        ] {
            assert_eq!(project_name(&local, bad), None, "{bad}");
        }
        assert_eq!(api(&local), "http://localhost:8080/api/v1");
        assert!(is_same(
            &local,
            "http://localhost:8080/api/v1",
            &api(&local)
        ));
        for other in ["http://localhost:8080/api/v1/", "http://localhost:8080"] {
            assert!(!is_same(&local, other, &api(&local)), "{other}");
        }
        let public = testing::config(&[
            "--url",
            "https://berth.example.com",
            "--apps-domain",
            "apps-example.net",
        ]);
        for good in [
            "https://hello.apps-example.net",
            "https://hello.apps-example.net:443/mcp",
            "https://HELLO.apps-example.NET/mcp/",
        ] {
            assert_eq!(
                project_name(&public, good).as_deref(),
                Some("hello"),
                "{good}"
            );
        }
        assert_eq!(
            project_name(&public, "http://hello.apps-example.net/mcp"),
            None
        );
        assert_eq!(
            project_name(&public, "https://hello.apps-example.net:8443/mcp"),
            None
        );
    }
}
