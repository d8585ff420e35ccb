//! When time ends a run: its longest time, and how long nobody may have used it. Pure: whoever knows the time asks, and nobody waits here.
//! All times are counted from when its commands, or its session, began.
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long before its end a run is warned, the earliest first. A limit that is no longer than that has no such warning.
const WARNINGS: [Duration; 2] = [Duration::from_mins(10), Duration::from_mins(1)];
/// Longest time that is counted: a clock cannot count further without care.
const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

/// Which limit ends a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeLimit {
    /// `max_runtime`.
    Runtime,
    /// `idle_timeout`.
    Idle,
}

/// What has to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Say that the run ends, and in what time.
    Warn(TimeLimit, Duration),
    /// End it.
    End(TimeLimit),
}

/// The limits of one run, and how it stands with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    runtime: Option<Duration>,
    idle: Option<Duration>,
    /// When it was used last.
    used: Duration,
    /// What was warned of: the end, and how long before it.
    warned: Option<(Duration, Duration)>,
}

impl Limits {
    /// Of a run that begins now. `None` is no limit.
    pub fn new(runtime: Option<Duration>, idle: Option<Duration>) -> Self {
        let most = |limit: Duration| limit.min(LONGEST);
        Self { runtime: runtime.map(most), idle: idle.map(most), ..Self::default() }
    }

    /// Somebody used the run then.
    pub fn used(&mut self, at: Duration) {
        self.used = self.used.max(at);
    }

    /// The run may take longer.
    pub fn extend(&mut self, by: Duration) {
        self.runtime = self.runtime.map(|limit| limit.saturating_add(by).min(LONGEST));
    }

    /// The limit that is reached first if nobody uses the run, and when.
    pub fn end(&self) -> Option<(TimeLimit, Duration)> {
        self.ends().min_by_key(|(_, at, _)| *at).map(|(limit, at, _)| (limit, at))
    }

    /// Both ends with how long the limit is.
    fn ends(&self) -> impl Iterator<Item = (TimeLimit, Duration, Duration)> {
        let runtime = self.runtime.map(|limit| (TimeLimit::Runtime, limit, limit));
        let idle = self.idle.map(|limit| (TimeLimit::Idle, self.used.saturating_add(limit), limit));
        runtime.into_iter().chain(idle)
    }

    /// What has to be done at this time. A warning is told once, unless the end has moved meanwhile.
    pub fn step(&mut self, now: Duration) -> Step {
        let Some((limit, end, length)) = self.ends().min_by_key(|(_, at, _)| *at) else {
            return Step::Nothing;
        };
        let left = end.saturating_sub(now);
        if left.is_zero() {
            return Step::End(limit);
        }
        let Some(due) = warnings(length).filter(|before| left <= *before).last() else {
            return Step::Nothing;
        };
        if self.warned.is_some_and(|(of, before)| of == end && before <= due) {
            return Step::Nothing;
        }
        self.warned = Some((end, due));
        Step::Warn(limit, left)
    }

    /// When to ask again at the latest.
    pub fn next(&self, now: Duration) -> Option<Duration> {
        let times = self.ends().flat_map(|(_, end, length)| {
            warnings(length)
                .map(move |before| end.saturating_sub(before))
                .filter(move |at| *at > now)
                .chain([end])
        });
        times.min()
    }
}

/// The warnings that a limit of this length has.
fn warnings(length: Duration) -> impl Iterator<Item = Duration> {
    WARNINGS.into_iter().filter(move |before| *before < length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Step::{End, Nothing, Warn};
    use TimeLimit::{Idle, Runtime};

    const fn minutes(n: u64) -> Duration {
        Duration::from_mins(n)
    }

    #[test]
    fn a_run_is_warned_and_ends() {
        let mut limits = Limits::new(Some(minutes(60)), None);
        let steps = [
            (0, Nothing, 50),
            (49, Nothing, 50),
            (50, Warn(Runtime, minutes(10)), 59),
            (55, Nothing, 59),
            (59, Warn(Runtime, minutes(1)), 60),
            (60, End(Runtime), 60),
        ];
        for (now, step, next) in steps {
            assert_eq!(limits.step(minutes(now)), step, "{now}");
            assert_eq!(limits.next(minutes(now)), Some(minutes(next)), "{now}");
        }
        // Whoever asks late is told once.
        let mut late = Limits::new(Some(minutes(60)), None);
        assert_eq!(late.step(Duration::from_secs(59 * 60 + 55)), Warn(Runtime, Duration::from_secs(5)));
        assert_eq!(late.step(minutes(61)), End(Runtime));
    }

    #[test]
    fn short_limits_have_fewer_warnings() {
        let mut limits = Limits::new(Some(minutes(10)), None);
        assert_eq!((limits.step(Duration::ZERO), limits.next(Duration::ZERO)), (Nothing, Some(minutes(9))));
        let mut limits = Limits::new(Some(Duration::from_secs(5)), None);
        assert_eq!(limits.step(Duration::from_secs(1)), Nothing);
        assert_eq!(limits.next(Duration::ZERO), Some(Duration::from_secs(5)));
        assert_eq!(Limits::new(None, None).next(Duration::ZERO), None);
        assert_eq!(Limits::new(None, None).step(minutes(1 << 40)), Nothing);
        assert_eq!(Limits::new(Some(Duration::MAX), None).step(minutes(60)), Nothing);
    }

    #[test]
    fn who_uses_a_run_moves_its_end() {
        let mut limits = Limits::new(Some(minutes(600)), Some(minutes(120)));
        assert_eq!(limits.end(), Some((Idle, minutes(120))));
        assert_eq!(limits.step(minutes(111)), Warn(Idle, minutes(9)));
        limits.used(minutes(112));
        assert_eq!((limits.step(minutes(120)), limits.next(minutes(120))), (Nothing, Some(minutes(222))));
        // The warning is told anew for the new end; what was long ago changes nothing.
        limits.used(minutes(3));
        assert_eq!(limits.step(minutes(222)), Warn(Idle, minutes(10)));
        assert_eq!(limits.step(minutes(232)), End(Idle));
        limits.used(minutes(590));
        assert_eq!(limits.end(), Some((Runtime, minutes(600))));
        assert_eq!(limits.step(minutes(595)), Warn(Runtime, minutes(5)));
        limits.extend(minutes(60));
        assert_eq!((limits.step(minutes(600)), limits.end()), (Nothing, Some((Runtime, minutes(660)))));
    }

    #[test]
    fn nothing_is_extended_that_has_no_limit() {
        let mut limits = Limits::new(None, Some(minutes(5)));
        limits.extend(minutes(60));
        assert_eq!(limits.end(), Some((Idle, minutes(5))));
    }
}
