use clap::Parser;

use super::*;

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    config: ServeConfig,
}

fn parse(arguments: &[&str]) -> ServeConfig {
    let arguments = std::iter::once(&"berth").chain(arguments);
    Program::try_parse_from(arguments).unwrap().config
}

fn refusal(arguments: &[&str]) -> String {
    let arguments = std::iter::once(&"berth").chain(arguments);
    match Program::try_parse_from(arguments) {
        Ok(program) => program.config.check().unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_defaults_serve_a_machine_of_ones_own() {
    let config = parse(&[]).check().unwrap();
    assert_eq!(config.issuer(), "http://localhost:8080");
    assert_eq!(config.authority(), "localhost:8080");
    assert_eq!(
        config.project_url("hello"),
        "http://hello.localhost:8080/mcp"
    );
    assert!(!config.is_secure());
}

#[test]
fn the_schemes_own_port_is_left_out() {
    let config = parse(&[
        "--url",
        "https://berth.example.com:443/",
        "--apps-domain",
        "Apps-Example.net",
    ]);
    let config = config.check().unwrap();
    assert_eq!(config.issuer(), "https://berth.example.com");
    assert_eq!(config.authority(), "berth.example.com");
    assert_eq!(config.project_origin("a"), "https://a.apps-example.net");
    assert!(config.is_secure());
}

#[test]
fn a_registrable_domain_is_not_shared_unless_allowed() {
    for (url, apps) in [
        ("https://berth.example.com", "apps.example.com"),
        ("https://example.com", "example.com"),
        ("https://berth.example.com", "example.com"),
    ] {
        let arguments = ["--url", url, "--apps-domain", apps];
        assert!(refusal(&arguments).contains("share a registrable domain"));
        let allowed = [&arguments[..], &["--allow-shared-domain"]].concat();
        parse(&allowed).check().unwrap();
    }
    parse(&["--url", "http://127.0.0.1:8080"]).check().unwrap();
}

#[test]
fn unusable_urls_and_domains_are_refused() {
    for url in [
        "ftp://a.example",
        "https://a.example/path",
        "https://u:p@a.example",
        "berth",
    ] {
        assert!(
            Program::try_parse_from(["berth", "--url", url]).is_err(),
            "{url}"
        );
    }
    for domain in ["", "a..b", "http://a.b", "-a.b", "a.b:80"] {
        assert!(
            Program::try_parse_from(["berth", &format!("--apps-domain={domain}")]).is_err(),
            "{domain}"
        );
    }
}

#[test]
fn secrets_come_from_files_and_are_never_printed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "hunter2\n").unwrap();
    let config = parse(&["--owner-password-file", file.to_str().unwrap()])
        .check()
        .unwrap();
    assert_eq!(config.owner_password.as_ref().unwrap().expose(), "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn an_unreadable_database_url_is_not_quoted() {
    let config = parse(&["--database-url", "hunter2"]).check().unwrap();
    let error = format!("{:#}", config.database_options().unwrap_err());
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn an_empty_secret_is_none() {
    let config = parse(&["--edge-token", ""]).check().unwrap();
    assert!(config.edge_token.is_none());
    assert!(!config.accepts_edge(""));
}

#[test]
fn role_tokens_are_compared_whole() {
    let config = parse(&["--edge-token", "abc", "--runner-token", "xyz"])
        .check()
        .unwrap();
    assert!(config.accepts_edge("abc"));
    assert!(!config.accepts_edge("ab"));
    assert!(!config.accepts_edge("xyz"));
    assert!(config.accepts_runner("xyz"));
}

#[test]
fn a_key_encryption_key_has_32_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kek");
    std::fs::write(&file, [1; 31]).unwrap();
    let config = parse(&["--kek-file", file.to_str().unwrap()]);
    assert!(config.key_encryption_key().is_err());
    std::fs::write(&file, [1; 32]).unwrap();
    assert_eq!(config.key_encryption_key().unwrap(), [1; 32]);
}

#[test]
fn inner_hosts_and_their_certificates_are_read() {
    let hosts = "Apps.Inner=10.0.0.7:8443,other.inner=[fd00::7]:443";
    let config = parse(&["--outbound-hosts", hosts]).check().unwrap();
    let shown = config.settings();
    let shown = shown
        .iter()
        .find(|(name, _)| *name == "BERTH_OUTBOUND_HOSTS");
    assert_eq!(shown.unwrap().1, hosts.to_lowercase());
    config.fetcher().unwrap();
    assert!(refusal(&["--outbound-hosts", "apps.inner"]).contains("name=ADDRESS:PORT"));
    let config = parse(&["--outbound-ca-file", "/nowhere/ca.pem"]);
    let refused = config.check().unwrap().fetcher().unwrap_err();
    assert!(refused.to_string().contains("BERTH_OUTBOUND_CA_FILE"));
}
