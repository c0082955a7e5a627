//! A repository's address: parsed, judged and rebuilt, so that nothing of what was typed reaches
//! a transport unseen.

use url::Url;

use crate::diagnose::{Code, diagnosis};
use crate::protocol::Diagnosis;

/// Longest address of a repository.
const MAX_URL_BYTES: usize = 2_048;

/// A repository's address in the one form that is used: parsed, judged and rebuilt.
pub fn checked_url(text: &str, allow_file: bool) -> Result<Url, Diagnosis> {
    let text = text.trim();
    let invalid = |cause: &str, fix: &str| Err(diagnosis(Code::SourceUrlInvalid, cause, fix));
    if text.len() > MAX_URL_BYTES || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return invalid(
            "The repository's address is too long or holds spaces.",
            "Write it like https://example.com/owner/repository.git.",
        );
    }
    // `git@host:owner/repository`, as hosts show it beside the https address.
    if let Some((user_host, path)) = text.split_once(':')
        && let Some((_, host)) = user_host.split_once('@')
        && !user_host.contains('/')
    {
        return invalid(
            &format!("{text} is an SSH address, and this platform has no SSH key of yours."),
            &format!("Use https://{host}/{path} instead."),
        );
    }
    let Ok(mut url) = Url::parse(text) else {
        let fix = if text.contains('.') && text.contains('/') {
            format!("Write https://{text} instead.")
        } else {
            "Write it like https://example.com/owner/repository.git.".to_owned()
        };
        return invalid(&format!("{text} is not an address."), &fix);
    };
    match url.scheme() {
        "file" if allow_file => return file_url(url),
        "file" => {
            return invalid(
                "file:// repositories are not allowed on this platform.",
                "Use an https:// address or `berth deploy PATH`, or ask the operator to start the runner with --allow-file-sources.",
            );
        }
        "https" => {}
        "http" => {
            return invalid(
                "An http:// address can be changed on the way.",
                "Use the https:// address of the repository.",
            );
        }
        other => {
            return invalid(
                &format!("{other}:// addresses are not supported."),
                "Use the https:// address of the repository.",
            );
        }
    }
    if !url.username().is_empty() || url.password().is_some() {
        return invalid(
            "The address holds a user name or a password, which would end up in logs.",
            "Remove everything between https:// and @ from the address.",
        );
    }
    if url.path().len() <= 1 {
        return invalid(
            &format!("{url} names a host and no repository."),
            "Add the repository's path, like https://example.com/owner/repository.git.",
        );
    }
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

fn file_url(url: Url) -> Result<Url, Diagnosis> {
    let here = url.host().is_none() || url.host_str() == Some("localhost");
    if here && url.path().len() > 1 && url.to_file_path().is_ok_and(|path| path.is_absolute()) {
        return Ok(url);
    }
    Err(diagnosis(
        Code::SourceUrlInvalid,
        format!("{url} does not name a directory on the platform's machine."),
        "Write it like file:///srv/repositories/name.",
    ))
}
