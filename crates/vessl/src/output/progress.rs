//! Progress bars of pulls and imports: on a terminal a line that changes in place, in a pipe nothing.
use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use vessl_core::wire::Progress;

use super::Out;
use super::words::clean;

/// Draws the steps of everything that is being moved.
#[derive(Debug)]
pub(crate) struct Bars {
    draw: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
}

impl Bars {
    /// Bars on standard error if it is a terminal.
    pub(crate) fn new(out: &Out) -> Self {
        let target =
            if out.is_interactive() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { draw: MultiProgress::with_draw_target(target), bars: BTreeMap::new() }
    }

    /// Shows one step. A step that is complete takes its bar away.
    pub(crate) fn step(&mut self, step: &Progress) {
        let label = format!("{} {}", step.kind, clean(&step.label));
        if step.total == Some(step.done) {
            if let Some(bar) = self.bars.remove(&label) {
                bar.finish_and_clear();
            }
            return;
        }
        let bar = self.bars.entry(label.clone()).or_insert_with(|| self.draw.add(bar(label)));
        if let Some(total) = step.total {
            bar.set_length(total);
        }
        bar.set_position(step.done);
    }

    /// Takes every bar away, so that other text can be printed.
    pub(crate) fn clear(&mut self) {
        for (_, bar) in std::mem::take(&mut self.bars) {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

fn bar(label: String) -> ProgressBar {
    let form = "{msg:40!} [{bar:30}] {bytes} of {total_bytes}  {bytes_per_sec}";
    let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::no_length().with_style(style.progress_chars("=> ")).with_message(label)
}
