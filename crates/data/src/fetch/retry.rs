//! How often and how long a server is waited for.
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// Longest pause between two tries that nobody asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Tries after a connection could not be made: a server that is down is said soon.
const TRIES_TO_CONNECT: u32 = 2;

/// How patient a download is.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Longest time for a connection.
    pub connect: Duration,
    /// Longest time in which nothing arrives.
    pub stall: Duration,
    /// Tries after a passing failure, from the last progress on.
    pub retries: u32,
    /// Pause before the first of them; it doubles.
    pub pause: Duration,
    /// Longest `Retry-After` that is waited for.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            retries: 5,
            pause: Duration::from_millis(250),
            longest_wait: Duration::from_mins(1),
        }
    }
}

/// What is left of the tries of one request, or of one download since it last moved.
#[derive(Debug)]
pub(crate) struct Retries {
    left: u32,
    pause: Duration,
    longest_wait: Duration,
}

impl Retries {
    pub(crate) fn new(policy: &RetryPolicy) -> Self {
        Self { left: policy.retries, pause: policy.pause, longest_wait: policy.longest_wait }
    }

    pub(crate) fn shorten(&mut self) {
        self.left = self.left.min(TRIES_TO_CONNECT);
    }

    /// Pauses before the next try; an error if there is none.
    pub(crate) async fn after_failure(&mut self) -> Result<(), ()> {
        tokio::time::sleep(self.next(Duration::ZERO).ok_or(())?).await;
        Ok(())
    }

    /// Uses up a try: the pause before it, as long as was `told` and never shorter than without being told.
    fn next(&mut self, told: Duration) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        Some(told.max(pause))
    }

    /// Waits as an answer asks; an error in words if that is too long or too often.
    pub(super) async fn retry_after(&mut self, headers: &HeaderMap) -> Result<(), String> {
        self.wait(asked(headers, SystemTime::now())).await
    }

    /// Waits as the text of a `Retry-After` says; an error in words if that is too long or too often.
    pub(crate) async fn wait_as(&mut self, text: &str) -> Result<(), String> {
        self.wait(seconds(text, SystemTime::now())).await
    }

    async fn wait(&mut self, told: Option<Duration>) -> Result<(), String> {
        let Some(wait) = told else {
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

/// How long an answer asks to wait: `Retry-After`, else until a limit that is used up begins anew, as Hugging Face says it.
fn asked(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    text(RETRY_AFTER.as_str()).and_then(|text| seconds(text, now)).or_else(|| limit(text("ratelimit")?))
}

/// `RateLimit`: `"name";r=LEFT;t=SECONDS` (draft-ietf-httpapi-ratelimit-headers). The longest of several that are used up counts.
fn limit(text: &str) -> Option<Duration> {
    let ends = |one: &str| {
        let number =
            |name: &str| one.split(';').find_map(|part| part.trim().strip_prefix(name)?.parse::<u64>().ok());
        number("t=").filter(|_| number("r=") == Some(0))
    };
    text.split(',').filter_map(ends).max().map(Duration::from_secs)
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
    fn a_server_may_ask_for_longer_pauses_and_not_for_none() {
        let (pause, retries) = (Duration::from_secs(3), 4);
        let mut left = Retries::new(&RetryPolicy { retries, pause, ..RetryPolicy::default() });
        let pauses = [0, 0, 60, 1, 0].map(|told| left.next(Duration::from_secs(told)));
        assert_eq!(pauses, [Some(3), Some(6), Some(60), Some(8), None].map(|s| s.map(Duration::from_secs)));
    }

    #[test]
    fn a_limit_that_is_used_up_says_when_it_ends() {
        let check = |headers: &[(&'static str, &str)], expected: Option<u64>| {
            let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let asked = asked(&headers.collect::<HeaderMap>(), SystemTime::UNIX_EPOCH);
            assert_eq!(asked, expected.map(Duration::from_secs));
        };
        check(&[], None);
        check(&[("ratelimit", "\"api\";r=0;t=55")], Some(55));
        check(&[("ratelimit", "\"api\";r=3;t=55")], None);
        check(&[("ratelimit", "\"api\"; r=0; t=5, \"resolvers\";r=0;t=200")], Some(200));
        check(&[("ratelimit", "\"api\";r=0;t=55"), ("retry-after", "7")], Some(7));
        check(&[("ratelimit", "nonsense;t;r=")], None);
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
