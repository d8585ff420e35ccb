//! How far pulls, imports and downloads are: on a terminal bars that change in place, in a pipe a line now and then.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use vessl_core::wire::Progress;

use super::Out;
use super::format::{bytes, clean};

/// Time between two lines about the same thing.
const LINE_EVERY: Duration = Duration::from_secs(5);

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
        let label = format!("{} {}", step.kind, clean(&step.label));
        self.line(&label, step);
        if step.total == Some(step.done) {
            if let Some(bar) = self.moving.remove(&label).and_then(|moving| moving.bar) {
                bar.finish_and_clear();
            }
            return;
        }
        let moving = self.moving.entry(label.clone()).or_insert_with(|| Moving::new(step.done));
        if step.done < moving.done {
            // It began again.
            (moving.begin, moving.from) = (Instant::now(), step.done);
        }
        moving.done = step.done;
        let bar = moving.bar.get_or_insert_with(|| self.draw.add(bar(label).with_position(step.done)));
        if let Some(total) = step.total {
            bar.set_style(style("{msg:32!} [{wide_bar}] {bytes} of {total_bytes} {prefix:>14}"));
            bar.set_length(total);
        }
        bar.set_prefix(speed(step.done - moving.from, moving.begin.elapsed()));
        bar.set_position(step.done);
    }

    /// Takes every bar away, so that other text can be printed. The next step brings its bar back where it was.
    pub(crate) fn clear(&mut self) {
        for bar in self.moving.values_mut().filter_map(|moving| moving.bar.take()) {
            bar.finish_and_clear();
        }
    }

    fn line(&mut self, label: &str, step: &Progress) {
        if self.said.is_some_and(|at| at.elapsed() >= LINE_EVERY) {
            self.said = Some(Instant::now());
            self.out.note(&format!("{label}: {}", so_far(step)));
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
    let total = step.total.map(|total| format!(" of {}", bytes(total))).unwrap_or_default();
    format!("{}{total}", bytes(step.done))
}

/// Bytes per second in words; nothing while there is too little time to know.
fn speed(moved: u64, time: Duration) -> String {
    let moved = u128::from(moved) * 1000;
    let rate = moved.checked_div(time.as_millis()).filter(|_| time >= SHORTEST);
    rate.map_or_else(String::new, |rate| format!("{}/s", bytes(u64::try_from(rate).unwrap_or(u64::MAX))))
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
        let check = |moved, millis, expected| {
            assert_eq!(speed(moved, Duration::from_millis(millis)), expected, "{moved} in {millis} ms");
        };
        check(0, 0, "");
        check(4096 * MIB, 3, "");
        check(0, 1000, "0 B/s");
        check(30 * MIB, 2000, "15.0 MiB/s");
        check(MIB, 500, "2.0 MiB/s");
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
