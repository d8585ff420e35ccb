//! The time between the start of a container and its end: output, reports, requests, time limits.
//!
//! ```text
//! Running ── Item… ── Ended ─┬─ (batch) init exits
//!    │                       └─ (kept)  Idle, until stopped or out of time
//!    └─ stop or time limit: SIGTERM to the leaders … half the grace: to the rest … kill of the cgroup
//! ```
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use vessl_container::limits::Cgroup;
use vessl_core::limits::{Step, TimeLimit};
use vessl_core::plan::Plan;
use vessl_core::record::{Ending, EventKind, InitAsk, InitReport, Phase, Usage};
use vessl_core::script;

use crate::record::events::eprint_line;
use crate::supervise::capture::OutputCapture;
use crate::supervise::clock::{self, Clock};
use crate::supervise::event_loop::{EventLoop, EventSource};
use crate::supervise::link::Link;
use crate::supervise::outcome::{self, CommandsEnd, Interruption};
use crate::supervise::scratch::ScratchWatch;
use crate::supervise::setup::Running;

/// How often a kill that did not work is tried again.
const KILL_AGAIN: Duration = Duration::from_secs(5);

/// What the time in the container was like.
#[derive(Debug)]
pub(crate) struct ExecutionResult {
    /// How the commands ended.
    pub(crate) end: CommandsEnd,
    /// When they started.
    pub(crate) started_at: Option<Timestamp>,
    /// Why they were ended before their time.
    pub(crate) interruption: Option<Interruption>,
    /// Whether everything had to be killed.
    pub(crate) killed: bool,
    /// Whether the kernel killed for memory.
    pub(crate) oom: bool,
    /// What they took of the machine.
    pub(crate) usage: Option<Usage>,
}

/// The items of a run in their order.
#[derive(Debug)]
struct Items {
    of: u32,
    /// The last that began, from 1.
    last: u32,
}

impl Items {
    fn of(plan: &Plan) -> Self {
        Self { of: u32::try_from(plan.items.len()).unwrap_or(u32::MAX), last: 0 }
    }

    /// Whether item `n` can begin now, which is then the last one.
    fn begins(&mut self, n: u32) -> bool {
        let is_next = self.last.checked_add(1) == Some(n) && n <= self.of;
        if is_next {
            self.last = n;
        }
        is_next
    }
}

struct Watch<'a> {
    event_loop: &'a mut EventLoop,
    plan: &'a Plan,
    items: Items,
    link: Link,
    capture: OutputCapture,
    scratch: Option<ScratchWatch>,
    pid: Pid,
    cgroup: Cgroup,
    started_at: Option<Timestamp>,
    end: Option<CommandsEnd>,
    /// What time does to the run, once its commands have started.
    clock: Option<Clock>,
    interruption: Option<Interruption>,
    /// When everything that has not had SIGTERM gets it, once init was told to stop.
    rest_at: Option<Instant>,
    /// When everything is killed, once init was told to stop.
    kill_at: Option<Instant>,
    killed: bool,
}

/// Stays with the container to its end; after this nothing of it runs.
pub(crate) fn watch(event_loop: &mut EventLoop, plan: &Plan, running: Running) -> ExecutionResult {
    let Running { container, link, capture, scratch } = running;
    let watch = Watch {
        event_loop,
        plan,
        items: Items::of(plan),
        link,
        capture,
        scratch,
        pid: Pid::from_raw(container.pid),
        cgroup: container.cgroup.clone(),
        started_at: None,
        end: None,
        clock: None,
        interruption: None,
        rest_at: None,
        kill_at: None,
        killed: false,
    };
    watch.until_it_ends()
}

impl Watch<'_> {
    fn until_it_ends(mut self) -> ExecutionResult {
        while !self.has_ended() {
            self.check_limits();
            match self
                .event_loop
                .wait(self.rest_at.or(self.kill_at).or(self.clock.as_ref().and_then(Clock::next)))
            {
                Ok(ready) => ready.into_iter().for_each(|source| self.serve(source)),
                Err(error) => self.abort(&error),
            }
            self.event_loop.log.flush();
        }
        self.close()
    }

    fn serve(&mut self, source: EventSource) {
        match source {
            EventSource::Stdout | EventSource::Stderr => self.capture.read(source, self.event_loop),
            EventSource::Link => self.receive(),
            EventSource::Scratch => self.too_much(),
            EventSource::Child | EventSource::Task => {}
        }
    }

    /// Whether init is gone, and with it everything in its namespace.
    fn has_ended(&self) -> bool {
        use nix::sys::wait::WaitStatus::StillAlive;
        !matches!(waitpid(self.pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WNOTHREAD)), Ok(StillAlive))
    }

    fn receive(&mut self) {
        let (reports, closed) = self.link.reports();
        for report in reports {
            self.on_report(report);
        }
        if closed {
            self.event_loop.leave(&self.link);
        }
    }

    /// Believes a report where it can stand: what runs in the container must not make up events.
    fn on_report(&mut self, report: InitReport) {
        match report {
            _ if self.end.is_some() => {}
            InitReport::Running if self.started_at.is_none() => self.running(),
            InitReport::Item { n } if self.started_at.is_some() && self.items.begins(n) => self.item(n),
            InitReport::Running | InitReport::Item { .. } => {}
            InitReport::Refused { why, exit_code } => {
                self.end = Some(CommandsEnd::Refused { why, exit_code });
            }
            InitReport::Ended { exit_code, item, how } => self.ended(exit_code, item, how),
        }
    }

    fn running(&mut self) {
        self.started_at = Some(self.event_loop.events.add(EventKind::Phase { phase: Phase::Running }));
        self.clock = Some(Clock::start(self.plan, self.event_loop.run_dir()));
    }

    /// The script waits for leave to go on, so what is in the pipes now is older than the item.
    fn item(&mut self, n: u32) {
        self.capture.drain(self.event_loop);
        let of = self.items.of;
        if of > 1 {
            self.event_loop.log.report(&format!("item {n} of {of}"));
        }
        self.link.ask(&InitAsk::Go);
        let bound = self.plan.bounds.events;
        if bound == 0 || u64::from(n) <= bound {
            self.event_loop.events.add(EventKind::Item { n, of });
        } else if u64::from(n) == bound + 1 {
            let words = "items from this one on are not recorded as events (`event_limit` of the server)";
            self.event_loop.log.report(words);
        }
    }

    fn ended(&mut self, exit_code: i32, item: Option<u32>, how: Ending) {
        let goes_on = self.plan.termination_protection
            || self.plan.interactive.is_some()
            || !self.plan.exports.is_empty();
        let words = script::ending(&self.plan.items, exit_code, item, how);
        if goes_on {
            self.event_loop.events.add(EventKind::CommandsEnded { exit_code, words: words.clone() });
        }
        self.end = Some(CommandsEnd::Ended { exit_code, item, how });
        if self.kill_at.is_some() {
            return;
        }
        if self.plan.termination_protection {
            self.capture.drain(self.event_loop);
            self.event_loop.log.report(&words);
            self.event_loop.events.add(EventKind::Phase { phase: Phase::Idle });
        } else if self.plan.interactive.is_some() {
            self.capture.drain(self.event_loop);
            self.event_loop.log.report(&format!("{words}; the session goes on"));
        }
    }

    /// The run has written more than it may.
    fn too_much(&mut self) {
        let Some(watch) = self.scratch.take() else { return };
        self.event_loop.leave(&watch);
        if let Some(excess) = watch.exceeded() {
            let grace = Duration::from_millis(self.plan.grace.0);
            self.stop(Interruption::TooMuch(excess), Instant::now() + grace);
        }
    }

    /// Carries out what was asked and what the time says.
    fn check_limits(&mut self) {
        let now = Instant::now();
        if let Some(stop) = self.event_loop.stop {
            self.stop(Interruption::Asked, stop.kill_at);
        } else {
            self.check_time(now);
        }
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill();
        } else if self.rest_at.is_some_and(|at| at <= now) {
            self.rest_at = None;
            self.event_loop.log.report("half of the grace is over: what has not had SIGTERM gets it");
            self.link.ask(&InitAsk::StopRest);
        }
    }

    /// Warns, and ends what has no time left.
    fn check_time(&mut self, now: Instant) {
        let Some(clock) = &mut self.clock else { return };
        clock.extend(std::mem::take(&mut self.event_loop.extended));
        match clock.step() {
            Step::Nothing => {}
            Step::Warn(limit, left) => {
                let words = clock::warning(limit, left);
                self.event_loop.log.report(&words);
                self.link.ask(&InitAsk::Say { words: words.clone() });
                self.event_loop.events.add(EventKind::EndsSoon { limit, words });
            }
            Step::End(limit) => {
                let length = clock.length(limit);
                self.clock = None;
                let kill_at = now + Duration::from_millis(self.plan.grace.0);
                self.stop(Interruption::TimeOver { limit, length }, kill_at);
            }
        }
    }

    fn stop(&mut self, interruption: Interruption, kill_at: Instant) {
        match &mut self.kill_at {
            // A later request can only shorten the grace, and never undoes a kill.
            Some(_) if self.killed => {}
            Some(known) => {
                *known = kill_at.min(*known);
                let half = halfway(*known);
                self.rest_at = self.rest_at.map(|rest_at| rest_at.min(half));
            }
            None => {
                self.kill_at = Some(kill_at);
                self.rest_at = Some(halfway(kill_at));
                self.interruption = Some(interruption);
                let why = match interruption {
                    Interruption::Asked => "asked to stop".to_owned(),
                    Interruption::TimeOver { limit: TimeLimit::Runtime, .. } => {
                        "the time limit is over".to_owned()
                    }
                    Interruption::TimeOver { limit: TimeLimit::Idle, length } => {
                        format!("nobody used the session for {length}")
                    }
                    Interruption::TooMuch(excess) => outcome::too_much(excess),
                };
                let grace = kill_at.saturating_duration_since(Instant::now()).as_secs_f64().round();
                self.event_loop.log.report(&format!("{why}: the commands get SIGTERM and {grace} s to end"));
                self.event_loop.events.add(EventKind::Phase { phase: Phase::Terminating });
                self.link.ask(&InitAsk::Stop);
            }
        }
    }

    fn kill(&mut self) {
        if !self.killed {
            self.event_loop.log.report("the grace is over: everything is killed");
        }
        self.killed = true;
        self.rest_at = None;
        self.kill_at = Some(Instant::now() + KILL_AGAIN);
        if let Err(error) = self.cgroup.kill() {
            eprint_line(&format!("cannot kill the container: {error}"));
        }
    }

    /// Without its event loop an agent can do one thing more.
    fn abort(&mut self, error: &std::io::Error) {
        eprint_line(&format!("cannot wait for events: {error}"));
        self.kill();
        std::thread::sleep(Duration::from_millis(100));
    }

    fn close(mut self) -> ExecutionResult {
        self.receive();
        self.capture.finish(self.event_loop);
        let idle = self.plan.items.is_empty() && self.plan.interactive.is_some() && self.started_at.is_some();
        ExecutionResult {
            end: self.end.unwrap_or(if idle { CommandsEnd::Idle } else { CommandsEnd::Vanished }),
            started_at: self.started_at,
            interruption: self.interruption,
            killed: self.killed,
            oom: self.cgroup.oom_kills() > 0,
            usage: Some(Usage {
                memory_peak: self.cgroup.memory_peak(),
                cpu_millis: self.cgroup.cpu_micros().map(|micros| micros / 1000),
            }),
        }
    }
}

/// In the middle between now and then.
fn halfway(to: Instant) -> Instant {
    let now = Instant::now();
    now + to.saturating_duration_since(now) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_begin_one_after_the_other() {
        let check = |of: u32, told: &[u32], believed: &[u32]| {
            let mut items = Items { of, last: 0 };
            let began: Vec<u32> = told.iter().copied().filter(|&n| items.begins(n)).collect();
            assert_eq!(began, believed, "{told:?} of {of}");
        };
        check(3, &[1, 2, 3], &[1, 2, 3]);
        check(3, &[1, 1, 2, 1, 2, 3, 3, 4, 999], &[1, 2, 3]);
        check(3, &[2, 0, 3, u32::MAX], &[]);
        check(3, &[1, 3, 2], &[1, 2]);
        check(0, &[0, 1], &[]);
        check(u32::MAX, &[1, 3, u32::MAX], &[1]);
    }
}
