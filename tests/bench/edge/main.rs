//! What a call costs at the edge with all its work on (token check, limits, usage recording), beside
//! nginx and nginx with `auth_request`; and what open streams cost.
//!
//! `cargo run --release --workspace --bin bench-edge -- [--runs N] [--seconds N] [--minutes N]`. Needs
//! nginx and wrk of the distribution, and an optimised berth (`TEST_BERTH`, by default
//! `target/release/berth`). Contestants alternate within a run; every figure is a median over the
//! runs with its range. Compare ratios of one run of this program, not figures of two machines.

mod berth;
mod load;
mod nginx;
mod process;
mod streams;
mod upstream;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use clap::Parser as _;

use crate::load::Load;

/// Connections at once.
const CONCURRENCIES: [usize; 4] = [1, 16, 64, 256];

/// Who is compared; the second one is the measure of the others.
const CONTESTANTS: [&str; 4] = [
    "upstream alone",
    "nginx",
    "nginx + auth_request",
    "berth edge",
];
const MEASURE: usize = 1;
const BERTH: usize = 3;

/// A ratio that falls this far below the accepted one is said.
const SHORTFALL: f64 = 0.85;

/// Requests/s of the edge in proportion to nginx, by connections, as last accepted.
const ACCEPTED: &str = include_str!("accepted.json");

/// What a call costs at the edge, beside nginx and nginx with `auth_request`; and what open streams cost.
///
/// Needs nginx and wrk, and an optimised berth: `cargo build --release --workspace --bin berth`, or the
/// one that TEST_BERTH names.
#[derive(clap::Parser)]
#[command(name = "bench-edge")]
struct Settings {
    /// Runs; every figure is a median over them.
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: usize,
    /// Seconds that each contestant is called for, in each run and at each number of connections.
    #[arg(long, value_name = "N", default_value_t = 3)]
    seconds: u64,
    /// Minutes for which a stream of one event a second is watched; a quarter of one by default.
    #[arg(long, value_name = "N", default_value_t = 0)]
    minutes: u64,
}

fn main() -> Result<()> {
    let settings = Settings::parse();
    let directory = tempfile::TempDir::new()?;
    let events = upstream::Events::start()?;
    let mut upstream = nginx::upstream(directory.path())?;
    let mut plain = nginx::proxy(directory.path(), upstream.port, events.port, false)?;
    let mut asking = nginx::proxy(directory.path(), upstream.port, events.port, true)?;
    let edge = berth::start(directory.path(), upstream.port, events.port)?;
    // All get the same requests.
    for other in [&mut upstream, &mut plain, &mut asking] {
        other.token.clone_from(&edge.token);
    }
    println!("{}", process::machine()?);
    calls(
        &settings,
        directory.path(),
        &[&upstream, &plain, &asking, &edge],
    )?;
    streams::measure(
        &events,
        &plain,
        &edge,
        Duration::from_secs(settings.minutes * 60),
    )
}

fn calls(
    settings: &Settings,
    directory: &std::path::Path,
    contestants: &[&process::Server; 4],
) -> Result<()> {
    let mut samples: BTreeMap<(usize, usize), Vec<load::Sample>> = BTreeMap::new();
    for run in 0..settings.runs {
        for connections in CONCURRENCIES {
            for turn in 0..contestants.len() {
                // Nobody always follows the same one.
                let index = (turn + run) % contestants.len();
                let load = Load {
                    directory,
                    connections,
                    seconds: settings.seconds,
                };
                let sample = load.run(contestants[index])?;
                samples
                    .entry((connections, index))
                    .or_default()
                    .push(sample);
            }
        }
        eprintln!("run {} of {} is done", run + 1, settings.runs);
    }
    report(&samples);
    Ok(())
}

fn report(samples: &BTreeMap<(usize, usize), Vec<load::Sample>>) {
    let accepted: BTreeMap<String, f64> =
        serde_json::from_str(ACCEPTED).expect("the accepted ratios are a JSON object");
    println!(
        "\n| connections | | requests/s | ratio to nginx | p50 ms | p99 ms | CPU µs/request | RSS MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for connections in CONCURRENCIES {
        let of = |index: usize| &samples[&(connections, index)];
        for (index, name) in CONTESTANTS.iter().enumerate() {
            let column = |value: fn(&load::Sample) -> f64| Spread::new(of(index).iter().map(value));
            let ratios = of(index)
                .iter()
                .zip(of(MEASURE))
                .map(|(one, measure)| one.per_second / measure.per_second);
            println!(
                "| {connections} | {name} | {:.0} | {:.2} | {:.2} | {:.2} | {:.1} | {:.0} |",
                column(|sample| sample.per_second),
                Spread::new(ratios),
                column(|sample| sample.p50_ms),
                column(|sample| sample.p99_ms),
                column(|sample| sample.cpu_us),
                column(|sample| sample.rss_mib),
            );
        }
        let ratio = Spread::new(
            of(BERTH)
                .iter()
                .zip(of(MEASURE))
                .map(|(one, measure)| one.per_second / measure.per_second),
        )
        .median;
        if let Some(known) = accepted.get(&connections.to_string())
            && ratio < known * SHORTFALL
        {
            println!(
                "\nSLOWER: at {connections} connections the edge serves {ratio:.2} of nginx; accepted was {known:.2}.\n"
            );
        }
    }
}

/// A median with its range.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn new(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        Self {
            median: values.get(values.len() / 2).copied().unwrap_or(f64::NAN),
            least: values.first().copied().unwrap_or(f64::NAN),
            most: values.last().copied().unwrap_or(f64::NAN),
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Self {
            median,
            least,
            most,
        } = self;
        write!(f, "{median:.digits$} ({least:.digits$}–{most:.digits$})")
    }
}
