//! Open streams: the time to the first event, the delay of later ones, what idle ones cost, and how
//! soon a client that left is gone upstream.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Spread;
use crate::process::Server;
use crate::upstream::Events;

/// Streams opened one after another to see how long a first event takes.
const OPENED: usize = 300;

/// Streams that are open at once.
const IDLE: usize = 1000;

/// How long events are timed if nothing else is asked for.
const TIMED: Duration = Duration::from_secs(15);

/// Who carries a stream.
struct Way<'a> {
    name: &'static str,
    port: u16,
    host: &'a str,
    path: &'static str,
    server: Option<&'a Server>,
}

pub fn measure(events: &Events, nginx: &Server, edge: &Server, timed: Duration) -> Result<()> {
    let ways = [
        Way {
            name: "upstream alone",
            port: events.port,
            host: "localhost",
            path: "/events",
            server: None,
        },
        Way {
            name: "nginx",
            port: nginx.port,
            host: &nginx.events_host,
            path: "/events",
            server: Some(nginx),
        },
        Way {
            name: "berth edge",
            port: edge.port,
            host: &edge.events_host,
            path: "/mcp",
            server: Some(edge),
        },
    ];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(first_events(&ways))?;
    runtime.block_on(idle(events, &ways))?;
    runtime.block_on(ticks(events, &ways, timed.max(TIMED)))
}

/// Opens a stream and waits for its first event.
async fn open(way: &Way<'_>, more: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", way.port)).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n{more}\r\n",
        way.path, way.host
    );
    stream.write_all(request.as_bytes()).await?;
    let mut read = Vec::new();
    while find_time(&read).is_none() {
        ensure!(
            stream.read_buf(&mut read).await? > 0,
            "{} closed the stream: {}",
            way.name,
            String::from_utf8_lossy(&read)
        );
    }
    Ok(stream)
}

/// The time in the last event, microseconds.
fn find_time(read: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(read).ok()?;
    let (_, rest) = text.rsplit_once("data: ")?;
    rest.split_once("\n\n")?.0.parse().ok()
}

async fn first_events(ways: &[Way<'_>; 3]) -> Result<()> {
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..OPENED {
        for (way, times) in ways.iter().zip(&mut times) {
            let began = Instant::now();
            drop(open(way, "").await?);
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    println!("\n| new stream to first event | p50 ms | p99 ms |\n|---|---|---|");
    for (way, times) in ways.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        println!(
            "| {} | {:.2} | {:.2} |",
            way.name,
            times[OPENED / 2],
            times[OPENED * 99 / 100]
        );
    }
    Ok(())
}

async fn idle(events: &Events, ways: &[Way<'_>; 3]) -> Result<()> {
    println!("\n| {IDLE} idle streams | KiB each | all gone upstream after ms |\n|---|---|---|");
    for way in &ways[1..] {
        let server = way.server.context("a proxy")?;
        settle(events, 0).await?;
        let before = server.rss_kib()?;
        let mut open_streams = Vec::with_capacity(IDLE);
        for _ in 0..IDLE {
            open_streams.push(open(way, "").await?);
        }
        settle(events, IDLE).await?;
        #[expect(clippy::cast_precision_loss, reason = "a thousand")]
        let each = (server.rss_kib()? - before) / IDLE as f64;
        let left = Instant::now();
        drop(open_streams);
        settle(events, 0).await?;
        println!(
            "| {} | {each:.1} | {:.0} |",
            way.name,
            left.elapsed().as_secs_f64() * 1e3
        );
    }
    Ok(())
}

/// Waits until so many streams are open upstream.
async fn settle(events: &Events, wanted: usize) -> Result<()> {
    let began = Instant::now();
    while events.open.load(Ordering::SeqCst) != wanted {
        ensure!(
            began.elapsed() < Duration::from_secs(30),
            "{} streams are open, not {wanted}",
            events.open.load(Ordering::SeqCst)
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn ticks(events: &Events, ways: &[Way<'_>; 3], timed: Duration) -> Result<()> {
    let mut delays = Vec::new();
    let all = async {
        let one = |way| delays_of(events, way, timed);
        tokio::try_join!(one(&ways[0]), one(&ways[1]), one(&ways[2]))
    };
    let (direct, nginx, edge) = all.await?;
    delays.extend([direct, nginx, edge]);
    println!(
        "\n| 1 event/s for {} s | delay of an event, ms |\n|---|---|",
        timed.as_secs()
    );
    for (way, delays) in ways.iter().zip(delays) {
        println!(
            "| {} ({} events) | {:.2} |",
            way.name,
            delays.len(),
            Spread::new(delays.into_iter())
        );
    }
    Ok(())
}

async fn delays_of(events: &Events, way: &Way<'_>, timed: Duration) -> Result<Vec<f64>> {
    let mut stream = open(way, "X-Ticks: 1\r\n").await?;
    let began = Instant::now();
    let mut delays = Vec::new();
    while began.elapsed() < timed {
        let mut read = Vec::new();
        while find_time(&read).is_none() {
            ensure!(
                stream.read_buf(&mut read).await? > 0,
                "{} broke off after {} events",
                way.name,
                delays.len()
            );
        }
        let sent = find_time(&read).context("an event")?;
        let now = events.began.elapsed().as_micros();
        #[expect(clippy::cast_precision_loss, reason = "well below a second")]
        delays.push(now.saturating_sub(sent) as f64 / 1e3);
    }
    Ok(delays)
}
