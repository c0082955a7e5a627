//! nginx as the upstream, and as the two proxies that Berth is compared with.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tests::wait;

use crate::process::{Server, free_port};

/// The answer of the upstream: as long as a small tool result.
const ANSWER_BYTES: usize = 300;

/// What a server reads of a request's head at once. With nginx's own 1 KiB the upstream would need a
/// second system call for the heads that the edge sends, which hold the caller's identity; servers in
/// use read far more.
const HEAD_BYTES: usize = 8 * 1024;

/// Answers every call with the same, the question of `auth_request` with yes, and plays the control
/// plane that takes an edge's reports.
pub fn upstream(directory: &Path) -> Result<Server> {
    let start = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":""#;
    let end = r#""}]}}"#;
    let filler = "x".repeat(ANSWER_BYTES - start.len() - end.len());
    let port = free_port()?;
    let server = format!(
        "server {{
            listen 127.0.0.1:{port};
            location = /mcp {{ default_type application/json; return 200 '{start}{filler}{end}'; }}
            location = /auth {{ return 204; }}
            location /internal/ {{ return 204; }}
        }}"
    );
    run(directory, "upstream", &server, port)
}

/// Passes calls on; with `asks`, asks for leave first, as people protect servers today.
pub fn proxy(directory: &Path, upstream: u16, events: u16, asks: bool) -> Result<Server> {
    let port = free_port()?;
    let question = if asks { "auth_request /auth;" } else { "" };
    let server = format!(
        "upstream calls {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
        upstream events {{ server 127.0.0.1:{events}; }}
        proxy_http_version 1.1;
        proxy_set_header Connection \"\";
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $remote_addr;
        server {{
            listen 127.0.0.1:{port} backlog=1024;
            location = /mcp {{ {question} proxy_pass http://calls; }}
            location = /events {{ proxy_pass http://events; proxy_buffering off; proxy_read_timeout 1h; }}
            location = /auth {{
                internal;
                proxy_pass http://calls;
                proxy_pass_request_body off;
                proxy_set_header Content-Length \"\";
            }}
        }}"
    );
    run(
        directory,
        if asks { "asking" } else { "plain" },
        &server,
        port,
    )
}

fn run(directory: &Path, name: &str, server: &str, port: u16) -> Result<Server> {
    let prefix = directory.join(name);
    std::fs::create_dir_all(&prefix)?;
    let configuration = format!(
        "daemon off; user root; worker_processes auto; worker_rlimit_nofile 65536;
        pid nginx.pid; error_log error.log warn;
        events {{ worker_connections 16384; }}
        http {{
            access_log off;
            client_header_buffer_size {HEAD_BYTES};
            keepalive_requests 100000000;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
            {server}
        }}"
    );
    let file = prefix.join("nginx.conf");
    std::fs::write(&file, configuration)?;
    let child = Command::new("nginx")
        .arg("-p")
        .arg(&prefix)
        .arg("-c")
        .arg(&file)
        .stdin(Stdio::null())
        .spawn()
        .context("nginx is missing; install it, or run ./tests/run --long")?;
    wait::until("nginx to listen", Duration::from_secs(10), || {
        Ok(std::net::TcpStream::connect(("127.0.0.1", port))
            .ok()
            .map(|_| ()))
    })?;
    Ok(Server {
        child,
        port,
        host: format!("127.0.0.1:{port}"),
        events_host: format!("127.0.0.1:{port}"),
        token: None,
    })
}
