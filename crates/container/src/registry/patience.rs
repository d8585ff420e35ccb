//! How often and how long a registry is waited for.
use std::time::{Duration, SystemTime};

use crate::options::Options;

/// Longest pause between two tries that nobody asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Tries after a connection could not be made: a registry that is down is said soon.
const TRIES_TO_CONNECT: u32 = 2;

/// What is left of the patience of one request, or of one download since it last moved.
#[derive(Debug)]
pub(super) struct Patience {
    tries: u32,
    pause: Duration,
    longest_wait: Duration,
}

impl Patience {
    pub(super) fn new(options: &Options) -> Self {
        Self { tries: options.retries, pause: options.pause, longest_wait: options.longest_wait }
    }

    pub(super) fn hurry(&mut self) {
        self.tries = self.tries.min(TRIES_TO_CONNECT);
    }

    /// Pauses before the next try; an error if there is none.
    pub(super) async fn after_failure(&mut self) -> Result<(), ()> {
        tokio::time::sleep(self.next(Duration::ZERO).ok_or(())?).await;
        Ok(())
    }

    /// Uses up a try: the pause before it, as long as was `told` and never shorter than without being told.
    fn next(&mut self, told: Duration) -> Option<Duration> {
        self.tries = self.tries.checked_sub(1)?;
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        Some(told.max(pause))
    }

    /// Waits as a `Retry-After` header says; an error in words if that is too long or too often.
    pub(super) async fn told_to_wait(&mut self, header: Option<&str>) -> Result<(), String> {
        let Some(wait) = header.and_then(|text| seconds(text, SystemTime::now())) else {
            return self.after_failure().await.map_err(|()| "again and again".to_owned());
        };
        if wait > self.longest_wait {
            return Err(format!("try again in {} s", wait.as_secs()));
        }
        let pause = self.next(wait).ok_or("again and again, although it was waited for")?;
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// `Retry-After`: seconds, or a date (RFC 9110 §10.2.3).
fn seconds(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_may_ask_for_longer_pauses_and_not_for_none() {
        let (pause, retries) = (Duration::from_secs(3), 4);
        let mut patience = Patience::new(&Options { retries, pause, ..Options::default() });
        let pauses = [0, 0, 60, 1, 0].map(|told| patience.next(Duration::from_secs(told)));
        assert_eq!(pauses, [Some(3), Some(6), Some(60), Some(8), None].map(|s| s.map(Duration::from_secs)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, expected) in [
            ("0", Some(0)),
            (" 12 ", Some(12)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Thu, 29 Feb 1996 08:49:37 GMT", Some(41_472_000)),
            ("soon", None),
            ("-1", None),
            ("Sun, 06 Nox 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(seconds(text, now), expected.map(Duration::from_secs), "{text}");
        }
    }
}
