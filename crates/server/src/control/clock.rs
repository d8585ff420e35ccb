//! The only clock of the server. Tests set it by hand.
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

/// Longest single sleep; a longer one is slept in parts.
const LONGEST: Duration = Duration::from_hours(24);

/// Where the time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A clock that stands still until its sender moves it.
    Fixed(watch::Receiver<Timestamp>),
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Fixed(at) => *at.borrow(),
        }
    }

    /// Waits until it is `then` or later; for ever without a time.
    pub async fn sleep_until(&self, then: Option<Timestamp>) {
        let Some(then) = then else { return std::future::pending().await };
        match self {
            Self::System => loop {
                let left = then.duration_since(Timestamp::now());
                let Ok(left) = Duration::try_from(left) else { return };
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LONGEST)).await;
            },
            Self::Fixed(at) => {
                if at.clone().wait_for(|now| *now >= then).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}
