//! The clock of a run: its limits ([`vessl_core::limits`]) on the time of this machine, and when somebody used it.
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use vessl_core::limits::{Limits, Step, TimeLimit};
use vessl_core::plan::Plan;
use vessl_core::record::ACTIVITY;
use vessl_core::units::Span;

/// When the time of one run is over.
#[derive(Debug)]
pub(crate) struct Clock {
    limits: Limits,
    started: Instant,
    /// How long the limits are, with what was added.
    runtime: Duration,
    idle: Duration,
    use_of: Use,
}

/// What is known of the use of a run.
#[derive(Debug)]
struct Use {
    dir: Option<OwnedFd>,
    /// Time of the file that tells, when it was looked at last.
    file: Option<SystemTime>,
    looked: Instant,
}

impl Clock {
    /// Of a run whose commands, or whose session, start now, and whose directory this is.
    pub(crate) fn start(plan: &Plan, dir: Option<OwnedFd>) -> Self {
        let millis = |span: Span| Duration::from_millis(span.0);
        let runtime = plan.time_limit().map(millis);
        let idle = plan.interactive.as_ref().and_then(|session| session.idle_timeout);
        let idle = idle.filter(|idle| idle.0 > 0).map(millis);
        let started = Instant::now();
        Self {
            limits: Limits::new(runtime, idle),
            started,
            runtime: runtime.unwrap_or_default(),
            idle: idle.unwrap_or_default(),
            use_of: Use { dir, file: None, looked: started },
        }
    }

    /// The run may take longer.
    pub(crate) fn extend(&mut self, by: Duration) {
        self.limits.extend(by);
        self.runtime = self.runtime.saturating_add(by);
    }

    /// When to look again at the latest.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.limits.next(self.started.elapsed()).map(|at| self.started + at)
    }

    /// What has to be done now.
    pub(crate) fn step(&mut self) -> Step {
        if let Some(ago) = self.use_of.look() {
            self.limits.used(self.started.elapsed().saturating_sub(ago));
        }
        self.limits.step(self.started.elapsed())
    }

    /// How long a limit was in the end.
    pub(crate) fn length(&self, limit: TimeLimit) -> Span {
        let length = match limit {
            TimeLimit::Runtime => self.runtime,
            TimeLimit::Idle => self.idle,
        };
        Span(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Use {
    /// How long ago somebody used the run, if that was since the last look. The clock of the wall may jump: it is never believed that this
    /// was before that look.
    fn look(&mut self) -> Option<Duration> {
        let about = fstatat(self.dir.as_ref()?, ACTIVITY, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        let since = Duration::new(about.st_mtime.try_into().ok()?, about.st_mtime_nsec.try_into().ok()?);
        let file = SystemTime::UNIX_EPOCH + since;
        let (before, looked) = (self.file.replace(file), std::mem::replace(&mut self.looked, Instant::now()));
        let ago = SystemTime::now().duration_since(file).unwrap_or_default();
        (before != Some(file)).then(|| ago.min(looked.elapsed()))
    }
}

/// What is said before a run is ended.
pub(crate) fn warning(limit: TimeLimit, left: Duration) -> String {
    let seconds = left.as_secs().max(1);
    let left = if seconds >= 60 { format!("{} min", seconds.div_ceil(60)) } else { format!("{seconds} s") };
    match limit {
        TimeLimit::Runtime => {
            format!("the time limit ends this run in {left}; `vessl run extend` gives it more time")
        }
        TimeLimit::Idle => {
            format!("nobody uses this session: it ends in {left} unless somebody does")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};

    use vessl_core::spec::Interactive;

    use super::*;
    use crate::testing;

    #[test]
    fn the_time_of_a_file_tells_of_use_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut used =
            Use { dir: Some(File::open(dir.path()).unwrap().into()), file: None, looked: Instant::now() };
        assert_eq!(used.look(), None);
        let touch = |at: SystemTime| {
            let file = File::create(dir.path().join(ACTIVITY)).unwrap();
            file.set_times(FileTimes::new().set_modified(at)).unwrap();
        };
        touch(SystemTime::now());
        assert!(used.look().is_some_and(|ago| ago < Duration::from_mins(1)));
        assert_eq!(used.look(), None);
        // A clock that was set forward makes nothing older than the last look, one that was set back nothing newer than now.
        let looked = used.looked;
        touch(SystemTime::now() - Duration::from_hours(10));
        assert!(used.look().unwrap() <= looked.elapsed());
        touch(SystemTime::now() + Duration::from_hours(10));
        assert_eq!(used.look(), Some(Duration::ZERO));
    }

    #[test]
    fn only_what_has_a_limit_is_ended() {
        let session = |idle| Plan {
            interactive: Some(Interactive { max_runtime: None, idle_timeout: idle }),
            ..testing::plan(&[])
        };
        let next = |plan: &Plan| Clock::start(plan, None).next().is_some();
        assert!(!next(&session(None)));
        assert!(!next(&session(Some(Span(0)))));
        assert!(next(&session(Some(Span(1000)))));
        let mut clock = Clock::start(&session(Some(Span(1))), None);
        clock.started -= Duration::from_secs(1);
        assert_eq!(clock.step(), Step::End(TimeLimit::Idle));
        assert_eq!(clock.length(TimeLimit::Idle), Span(1));
    }

    #[test]
    fn warnings_say_what_helps() {
        let said = warning(TimeLimit::Runtime, Duration::from_secs(599));
        assert_eq!(said, "the time limit ends this run in 10 min; `vessl run extend` gives it more time");
        let said = warning(TimeLimit::Idle, Duration::from_millis(59_900));
        assert_eq!(said, "nobody uses this session: it ends in 59 s unless somebody does");
    }
}
