//! Time limits that nearly never run out, for what happens with every call.
//!
//! Setting a timer and taking it back costs more than most of what a call needs. An [`Alarm`] is set
//! once, and when it goes off looks whether the limit at hand has really passed; mostly it has not,
//! since the call it was set for ended long ago, and it is set anew for what is left.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// One timer for many limits, of which one is awaited at a time.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Mutex<Option<Set>>);

/// A timer that has been set.
#[derive(Debug)]
struct Set {
    sleep: Pin<Box<tokio::time::Sleep>>,
    /// The task that it wakes.
    wakes: Waker,
}

impl Alarm {
    /// Ready when `deadline` has passed.
    fn poll(&self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let mut set = self.lock();
        let Set { sleep, wakes } = set.get_or_insert_with(|| Set {
            sleep: Box::pin(tokio::time::sleep_until(deadline.into())),
            wakes: Waker::noop().clone(),
        });
        if sleep.deadline().into_std() > deadline {
            sleep.as_mut().reset(deadline.into());
        } else if wakes.will_wake(cx.waker()) && !sleep.is_elapsed() {
            // It will wake this task, and has not gone off.
            return Poll::Pending;
        }
        wakes.clone_from(cx.waker());
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline().into_std() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline.into());
        }
        Poll::Pending
    }

    /// What `work` gives, unless it takes longer than `limit`. It is pinned already, since a future
    /// that is handed on is copied.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let deadline = Instant::now() + limit;
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => self.poll(cx, deadline).map(|()| None),
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Option<Set>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The timer of the server library for one connection, which waits for one thing at a time: the next
/// request.
#[derive(Debug, Default)]
pub(crate) struct OneTimer(Arc<Alarm>);

/// A wait for [`OneTimer`].
struct Wait {
    alarm: Arc<Alarm>,
    deadline: Instant,
}

impl Timer for OneTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Wait {
            alarm: Arc::clone(&self.0),
            deadline,
        })
    }
}

impl Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.poll(cx, self.deadline)
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn one_timer_serves_limits_that_come_sooner_and_later() {
        let alarm = Alarm::default();
        let hour = Duration::from_hours(1);
        assert_eq!(alarm.within(hour, pin!(async { 7 })).await, Some(7));
        // What ends in time leaves its timer behind.
        let quick = pin!(tokio::task::yield_now());
        assert_eq!(alarm.within(hour, quick).await, Some(()));
        for millis in [10, 40, 20] {
            let limit = Duration::from_millis(millis);
            let began = Instant::now();
            let never = pin!(std::future::pending::<()>());
            assert_eq!(alarm.within(limit, never).await, None);
            assert!(began.elapsed() >= limit);
        }
    }
}
