//! How far pulls, imports and downloads are: on a terminal bars that change in place, in a pipe a line now and then.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use vessl_core::wire::Progress;

use super::Out;
use super::format::{bytes, clean, span};

/// Time between two lines about the same thing.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Time between two looks at work that counts by itself.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Shortest time that says anything about speed.
const SHORTEST: Duration = Duration::from_millis(200);

/// Shows the steps of everything that is being moved.
#[derive(Debug)]
pub(crate) struct Bars {
    out: Out,
    draw: MultiProgress,
    moving: BTreeMap<String, Moving>,
    /// When the last line was said, where lines are said.
    said: Option<Instant>,
}

/// One thing that is being moved. It is remembered while its bar is away.
#[derive(Debug)]
struct Moving {
    bar: Option<ProgressBar>,
    /// The first step that was seen, and how far it was.
    begin: Instant,
    from: u64,
    done: u64,
}

impl Moving {
    fn new(done: u64) -> Self {
        Self { bar: None, begin: Instant::now(), from: done, done }
    }
}

impl Bars {
    /// Bars on a terminal, and nothing in a pipe.
    pub(crate) fn new(out: &Out) -> Self {
        let target =
            if out.is_interactive() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let draw = MultiProgress::with_draw_target(target);
        Self { out: out.clone(), draw, moving: BTreeMap::new(), said: None }
    }

    /// Bars on a terminal, and lines in a pipe.
    pub(crate) fn or_lines(out: &Out) -> Self {
        let mut bars = Self::new(out);
        bars.said = (!out.is_interactive()).then(Instant::now);
        bars
    }

    /// Shows one step. A step that is complete takes its bar away.
    pub(crate) fn step(&mut self, step: &Progress) {
        self.show(&format!("{} {}", step.kind, clean(&step.label)), step.done, step.total);
    }

    /// Shows how far something is. What is complete has no bar any more.
    pub(crate) fn show(&mut self, label: &str, done: u64, total: Option<u64>) {
        self.line(label, done, total);
        if total == Some(done) {
            if let Some(bar) = self.moving.remove(label).and_then(|moving| moving.bar) {
                bar.finish_and_clear();
            }
            return;
        }
        let moving = self.moving.entry(label.to_owned()).or_insert_with(|| Moving::new(done));
        if done < moving.done {
            // It began again.
            (moving.begin, moving.from) = (Instant::now(), done);
        }
        moving.done = done;
        let new = || self.draw.add(bar(label.to_owned()).with_position(done));
        let bar = moving.bar.get_or_insert_with(new);
        if let Some(total) = total {
            bar.set_style(style("{msg:24!} [{wide_bar}] {bytes} of {total_bytes} {prefix:>22}"));
            bar.set_length(total);
        }
        let left = total.map(|total| total.saturating_sub(done));
        bar.set_prefix(speed(done - moving.from, moving.begin.elapsed(), left));
        bar.set_position(done);
    }

    /// Shows how far some work is that counts what it has done in `done`, until it ends.
    pub(crate) async fn follow<T>(
        mut self,
        label: &str,
        (done, total): (&AtomicU64, u64),
        work: impl Future<Output = T>,
    ) -> T {
        let label = clean(label);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        tokio::pin!(work);
        loop {
            tokio::select! {
                ended = &mut work => return ended,
                _ = looks.tick() => self.show(&label, done.load(Relaxed).min(total), Some(total)),
            }
        }
    }

    /// Takes every bar away, so that other text can be printed. The next step brings its bar back where it was.
    pub(crate) fn clear(&mut self) {
        for bar in self.moving.values_mut().filter_map(|moving| moving.bar.take()) {
            bar.finish_and_clear();
        }
    }

    fn line(&mut self, label: &str, done: u64, total: Option<u64>) {
        if self.said.is_some_and(|at| at.elapsed() >= LINE_EVERY) {
            self.said = Some(Instant::now());
            self.out.note(&format!("{label}: {}", of_total(done, total)));
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How far a step is, in words.
pub(super) fn so_far(step: &Progress) -> String {
    of_total(step.done, step.total)
}

fn of_total(done: u64, total: Option<u64>) -> String {
    let total = total.map(|total| format!(" of {}", bytes(total))).unwrap_or_default();
    format!("{}{total}", bytes(done))
}

/// Bytes per second in words, and the time that what is left takes at that speed; nothing while there is too little time to know.
fn speed(moved: u64, time: Duration, left: Option<u64>) -> String {
    let per_millis = u128::from(moved) * 1000;
    let rate = per_millis.checked_div(time.as_millis()).filter(|_| time >= SHORTEST);
    let Some(rate) = rate else { return String::new() };
    let speed = format!("{}/s", bytes(u64::try_from(rate).unwrap_or(u64::MAX)));
    let left = left.filter(|_| rate > 0).map(|left| (u128::from(left) * 1000).div_ceil(rate));
    match left.and_then(|millis| u64::try_from(millis).ok()) {
        // Rounded up: it is not done before the last byte is here.
        Some(millis) => format!("{speed}, {}", span(millis.div_ceil(1000) * 1000)),
        None => speed,
    }
}

/// A bar of which nobody knows how long it will be.
fn bar(label: String) -> ProgressBar {
    ProgressBar::no_length().with_style(style("{msg:32!} {bytes} {prefix:>14}")).with_message(label)
}

fn style(form: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use vessl_core::wire::ProgressKind;

    use super::*;
    use crate::output::Format;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_speed_is_what_was_moved_in_its_time() {
        let check = |(moved, millis), left, expected| {
            let said = speed(moved, Duration::from_millis(millis), left);
            assert_eq!(said, expected, "{moved} in {millis} ms, {left:?} left");
        };
        check((0, 0), None, "");
        check((4096 * MIB, 3), Some(MIB), "");
        check((0, 1000), Some(MIB), "0 B/s");
        check((30 * MIB, 2000), None, "15.0 MiB/s");
        check((30 * MIB, 2000), Some(1830 * MIB), "15.0 MiB/s, 2m 02s");
        check((MIB, 500), Some(1), "2.0 MiB/s, 1.0s");
    }

    #[test]
    fn a_bar_comes_back_where_it_was() {
        let mut bars = Bars::new(&Out::new(Format::Table));
        let mut step = |done, clear| {
            let total = Some(100 * MIB);
            bars.step(&Progress { kind: ProgressKind::Image, label: "a".to_owned(), done, total });
            let moving = bars.moving.get_mut("image a");
            let seen = moving.map(|moving| (moving.from, moving.bar.as_ref().unwrap().position()));
            if clear {
                bars.clear();
            }
            seen
        };
        // Part of it was here already.
        assert_eq!(step(40 * MIB, true), Some((40 * MIB, 40 * MIB)));
        assert_eq!(step(60 * MIB, false), Some((40 * MIB, 60 * MIB)));
        assert_eq!(step(10 * MIB, true), Some((10 * MIB, 10 * MIB)), "it began again");
        assert_eq!(step(100 * MIB, false), None, "done");
    }
}
