//! Calls that go on while something is done to their server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// With fewer calls nothing is said of what happens under load.
const LEAST: usize = 100;

/// Makes one call after another, `pace` apart, until `work` is done. Gives what `work` gave and what
/// each call gave, in order; fails if `work` does, or any call.
pub fn during<T: Send, W>(
    pace: Duration,
    call: impl Fn(usize) -> Result<T> + Sync,
    work: impl FnOnce() -> Result<W>,
) -> Result<(W, Vec<T>)> {
    let stop = AtomicBool::new(false);
    let (seen, done) = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let (mut seen, mut next) = (Vec::new(), Instant::now());
            while !stop.load(Ordering::Relaxed) {
                seen.push(call(seen.len()));
                next += pace;
                std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
            }
            seen
        });
        let done = work();
        stop.store(true, Ordering::Relaxed);
        (load.join().expect("the load does not panic"), done)
    });
    let done = done?;
    let calls = seen.len();
    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    for (number, answer) in seen.into_iter().enumerate() {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(error) => failures.push(format!("call {number}: {error:#}")),
        }
    }
    ensure!(
        failures.is_empty(),
        "{} of {calls} calls failed: {failures:#?}",
        failures.len()
    );
    ensure!(calls > LEAST, "only {calls} calls");
    Ok((done, answers))
}
