//! How far pulls, imports and downloads are: on a terminal bars that change in place, in a pipe a line now and then.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use vessl_core::wire::Progress;

use super::Out;
use super::words::{bytes, clean};

/// Time between two lines about the same thing.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows the steps of everything that is being moved.
#[derive(Debug)]
pub(crate) struct Bars {
    out: Out,
    draw: MultiProgress,
    shown: BTreeMap<String, ProgressBar>,
    /// When the last line was said, where lines are said.
    said: Option<Instant>,
}

impl Bars {
    /// Bars on a terminal, and nothing in a pipe.
    pub(crate) fn new(out: &Out) -> Self {
        let target =
            if out.is_interactive() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let draw = MultiProgress::with_draw_target(target);
        Self { out: out.clone(), draw, shown: BTreeMap::new(), said: None }
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
            if let Some(bar) = self.shown.remove(&label) {
                bar.finish_and_clear();
            }
            return;
        }
        let bar = self.shown.entry(label.clone()).or_insert_with(|| self.draw.add(bar(label)));
        if let Some(total) = step.total {
            bar.set_length(total);
        }
        bar.set_position(step.done);
    }

    /// Takes every bar away, so that other text can be printed.
    pub(crate) fn clear(&mut self) {
        for (_, bar) in std::mem::take(&mut self.shown) {
            bar.finish_and_clear();
        }
    }

    fn line(&mut self, label: &str, step: &Progress) {
        if self.said.is_some_and(|at| at.elapsed() >= LINE_EVERY) {
            self.said = Some(Instant::now());
            let total = step.total.map(|total| format!(" of {}", bytes(total))).unwrap_or_default();
            self.out.note(&format!("{label}: {}{total}", bytes(step.done)));
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

fn bar(label: String) -> ProgressBar {
    let form = "{msg:32!} [{wide_bar}] {bytes} of {total_bytes} {bytes_per_sec:>14}";
    let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::no_length().with_style(style.progress_chars("=> ")).with_message(label)
}
