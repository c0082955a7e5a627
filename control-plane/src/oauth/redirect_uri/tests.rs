use super::*;

const GOOD: &[&str] = &[
    // What clients are known to register.
    "http://localhost:49152/callback",
    "http://localhost/callback",
    "http://127.0.0.1/callback",
    "http://127.0.0.1:33418/",
    "http://127.0.0.1/",
    "http://127.0.0.1:33418",
    "http://[::1]:7777/callback",
    "http://[::1]/callback",
    "http://127.8.9.10:1/x",
    "http://localhost:6274/oauth/callback",
    "http://localhost:6274/oauth/callback/debug",
    "http://localhost:7777/oauth/callback",
    "http://localhost:8787/callback",
    "cursor://anysphere.cursor-mcp/oauth/callback",
    "https://www.cursor.com/agents/mcp/oauth/callback",
    "https://claude.ai/api/mcp/auth_callback",
    "https://claude.com/api/mcp/auth_callback",
    "https://chatgpt.com/connector_platform_oauth_redirect",
    "https://chatgpt.com/connector/oauth/abc123",
    "https://vscode.dev/redirect",
    "https://insiders.vscode.dev/redirect",
    "vscode://vscode.github-authentication/did-authenticate",
    "com.example.app:/oauth2redirect",
    "com.example.app://callback",
    "https://example.com:8443/cb?tenant=1",
    "https://example.com",
    "https://192.0.2.1/cb",
    "https://[2001:db8::1]/cb",
];

const BAD: &[&str] = &[
    "",
    "callback",
    "/callback",
    "//example.com/cb",
    "http://example.com/cb",
    "http://localhost.evil.example/cb",
    "http://127.0.0.1.evil.example/cb",
    "http://evil.example/localhost",
    "http://localhost@evil.example/cb",
    "http://evil.example@localhost/cb",
    "http://localhost:80@evil.example/cb",
    "http://localhost\\@evil.example/cb",
    "http://localhost:x/cb",
    "http://localhost:0/cb",
    "http://localhost:99999/cb",
    "http://localhost:/cb",
    "http://LOCALHOST/cb",
    "http://localhost./cb",
    "http://127.1/cb",
    "http://2130706433/cb",
    "http://0x7f.0.0.1/cb",
    "http://0.0.0.0/cb",
    "http://10.0.0.1/cb",
    "http://[::]/cb",
    "http://[::ffff:127.0.0.1]/cb",
    "http://[::1/cb",
    "http:localhost/cb",
    "http:/localhost/cb",
    "http://",
    "https://",
    "https:example.com/cb",
    "https:///example.com/cb",
    "https://user@example.com/cb",
    "https://user:pass@example.com/cb",
    "https://example.com/cb#fragment",
    "https://example.com/cb#",
    "https://exa mple.com/cb",
    "https://example.com/c b",
    "https://example.com/\r\nSet-Cookie:a=b",
    "https://example.com/\u{202e}cb",
    "https://ex%61mple.com/cb",
    "https://example.com;script-src/cb",
    "https://exämple.com/cb",
    "https://*.example.com/cb",
    "https://example.com/<script>",
    "javascript:alert(1)",
    "JavaScript:alert(1)",
    " javascript:alert(1)",
    "java\tscript:alert(1)",
    "javascript://example.com/%0aalert(1)",
    "data:text/html,x",
    "DATA:text/html,x",
    "file:///etc/passwd",
    "vbscript:x",
    "view-source:https://example.com",
    "blob:https://example.com/x",
    "filesystem:https://example.com/x",
    "about:blank",
    "ftp://example.com/x",
    "ws://example.com/x",
    "wss://example.com/x",
    "mailto:a@example.com",
    "tel:123",
    "intent://x#Intent;end",
    "ms-msdt:/id",
    "search-ms:query=x",
    "chrome://settings",
    "urn:ietf:wg:oauth:2.0:oob",
    "1app://callback",
    "myapp:",
    "myapp://user@host/cb",
    "myapp://a;b/cb",
];

#[test]
fn what_may_be_registered() {
    for uri in GOOD {
        assert_eq!(check(uri), Ok(()), "{uri}");
    }
    for uri in BAD {
        assert!(check(uri).is_err(), "{uri:?} was accepted");
    }
    assert!(check(&format!("https://example.com/{}", "a".repeat(MAX_LENGTH))).is_err());
    assert!(GOOD.len() + BAD.len() >= 60);
}

#[test]
fn only_the_port_of_loopback_may_differ() {
    for (registered, requested) in [
        (
            "http://localhost/callback",
            "http://localhost:49152/callback",
        ),
        ("http://localhost:1/callback", "http://localhost/callback"),
        ("http://127.0.0.1:33418/", "http://127.0.0.1:5/"),
        ("http://[::1]/cb?x=1", "http://[::1]:9/cb?x=1"),
        ("https://example.com/cb", "https://example.com/cb"),
        (
            "cursor://anysphere.cursor-mcp/cb",
            "cursor://anysphere.cursor-mcp/cb",
        ),
    ] {
        assert!(matches(registered, requested), "{registered} {requested}");
    }
    for (registered, requested) in [
        ("http://localhost/callback", "http://127.0.0.1/callback"),
        ("http://127.0.0.1/callback", "http://127.0.0.2/callback"),
        ("http://localhost/callback", "http://[::1]/callback"),
        ("http://localhost/callback", "http://localhost/callback/"),
        ("http://localhost/callback", "http://localhost/Callback"),
        ("http://localhost/callback", "http://localhost/callback?x=1"),
        ("http://localhost/callback", "http://localhost/callback#x"),
        (
            "http://localhost/callback",
            "http://localhost:1@evil.example/callback",
        ),
        (
            "http://localhost/callback",
            "http://localhost.evil.example/callback",
        ),
        ("http://localhost/callback", "https://localhost/callback"),
        ("http://localhost/callback", "HTTP://localhost/callback"),
        ("http://localhost", "http://localhost/"),
        (
            "http://localhost/cb",
            "http://localhost:1\\@evil.example/cb",
        ),
        ("https://example.com/cb", "https://example.com:443/cb"),
        ("https://example.com/cb", "https://example.com:8443/cb"),
        ("https://example.com/cb", "https://example.com/cb/"),
        ("https://example.com/cb", "https://EXAMPLE.com/cb"),
        ("https://example.com/cb", "https://example.com/cb?x=1"),
        ("https://example.com/cb", "https://example.com/cb/../evil"),
        ("https://example.com/cb", "https://sub.example.com/cb"),
        ("https://localhost/cb", "https://localhost:8443/cb"),
        ("cursor://a/cb", "cursor://a:1/cb"),
        ("cursor://a/cb", "cursor://b/cb"),
    ] {
        assert!(!matches(registered, requested), "{registered} {requested}");
    }
}

#[test]
fn what_people_and_browsers_are_told() {
    assert_eq!(
        display("http://localhost:49152/callback"),
        "localhost:49152"
    );
    assert_eq!(
        display("https://claude.ai/api/mcp/auth_callback"),
        "claude.ai"
    );
    assert_eq!(
        display("cursor://anysphere.cursor-mcp/x"),
        "cursor: (an app on your device)"
    );
    assert_eq!(
        source("http://127.0.0.1:5/x?y").as_deref(),
        Some("http://127.0.0.1:5")
    );
    assert_eq!(
        source("cursor://anysphere.cursor-mcp/x").as_deref(),
        Some("cursor:")
    );
    assert!(is_loopback("http://localhost:1/x") && !is_loopback("https://localhost/x"));
}
