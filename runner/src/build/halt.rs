//! Work of a build that runs on a thread of its own and would hold up all others elsewhere. How
//! much of it there is, a source decides: so it ends with the build.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::container::Failure;

/// Tells such work to stop. It looks often: at least between two files.
#[derive(Debug, Clone, Default)]
pub struct Halt(Arc<AtomicBool>);

impl Halt {
    /// Whether nobody waits for the work any more.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The same as an error, for work that reads and writes.
    pub fn check(&self) -> io::Result<()> {
        if self.is_set() {
            return Err(io::Error::other("the build has ended"));
        }
        Ok(())
    }

    /// Stops it.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Stops the work when what waits for it is gone, for whatever reason.
struct Waiting(Halt);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Waits for work on another thread until the build's deadline, or until it is called off. What
/// the work would still have answered is lost then.
pub async fn bounded<T: Send + 'static>(
    deadline: Instant,
    canceled: &CancellationToken,
    work: impl FnOnce(&Halt) -> T + Send + 'static,
) -> Result<T, Failure> {
    let waiting = Waiting(Halt::default());
    let halt = waiting.0.clone();
    let done = tokio::task::spawn_blocking(move || work(&halt));
    tokio::select! {
        done = done => done.map_err(|error| Failure::Platform(error.into())),
        () = tokio::time::sleep_until(deadline) => Err(Failure::TimedOut),
        () = canceled.cancelled() => Err(Failure::Canceled),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Work that ends only when it is told to; it says when it begins and when it has ended.
    fn endless() -> (
        impl FnOnce(&Halt) + Send + 'static,
        mpsc::Receiver<&'static str>,
    ) {
        let (says, heard) = mpsc::channel();
        let work = move |halt: &Halt| {
            says.send("begun").unwrap();
            while !halt.is_set() {
                std::thread::yield_now();
            }
            says.send("ended").unwrap();
        };
        (work, heard)
    }

    #[tokio::test]
    async fn a_deadline_ends_the_waiting_and_the_work() {
        let (work, heard) = endless();
        let deadline = Instant::now() + Duration::from_millis(20);
        let ended = bounded(deadline, &CancellationToken::new(), work).await;
        assert!(matches!(ended, Err(Failure::TimedOut)));
        assert_eq!(heard.iter().collect::<Vec<_>>(), ["begun", "ended"]);
    }

    #[tokio::test]
    async fn calling_it_off_ends_the_waiting_and_the_work() {
        let (work, heard) = endless();
        let canceled = CancellationToken::new();
        let far = Instant::now() + Duration::from_hours(1);
        canceled.cancel();
        let ended = bounded(far, &canceled, work).await;
        assert!(matches!(ended, Err(Failure::Canceled)));
        assert_eq!(heard.iter().collect::<Vec<_>>(), ["begun", "ended"]);
    }

    #[tokio::test]
    async fn work_that_ends_in_time_answers() {
        let far = Instant::now() + Duration::from_hours(1);
        let answer = bounded(far, &CancellationToken::new(), Halt::is_set).await;
        assert!(!answer.unwrap());
    }
}
