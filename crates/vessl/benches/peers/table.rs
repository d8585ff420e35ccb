//! The result: one row per demand, as text and as JSON.
use std::fmt;

use serde_json::{Value, json};

/// What is demanded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// Ours divided by the peer's, at most.
    Ratio(f64),
    /// Ours, at most.
    AtMost(f64),
    /// Ours, at least.
    AtLeast(f64),
}

/// One measured thing.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) ours: f64,
    /// Who the peer is, and its number.
    pub(crate) peer: Option<(&'static str, f64)>,
    pub(crate) limit: Limit,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.peer.map(|(_, peer)| self.ours / peer)
    }

    fn is_kept(&self) -> bool {
        match self.limit {
            Limit::Ratio(most) => self.ratio().is_some_and(|ratio| ratio <= most),
            Limit::AtMost(most) => self.ours <= most,
            Limit::AtLeast(least) => self.ours >= least,
        }
    }

    fn limit(&self) -> String {
        match self.limit {
            Limit::Ratio(most) => format!("ratio <= {most}"),
            Limit::AtMost(most) => format!("<= {most} {}", self.unit),
            Limit::AtLeast(least) => format!(">= {least} {}", self.unit),
        }
    }

    fn verdict(&self) -> &'static str {
        if self.is_kept() { "ok" } else { "OVER" }
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what, "unit": self.unit, "ours": self.ours, "peer": self.peer.map(|(_, peer)| peer),
            "peer_name": self.peer.map(|(name, _)| name), "ratio": self.ratio(), "limit": self.limit(),
            "kept": self.is_kept(),
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ours = format!("{} {}", number(self.ours), self.unit);
        let peer = self.peer.map(|(name, peer)| format!("{name} {} {}", number(peer), self.unit));
        let ratio = self.ratio().map(|ratio| format!("{ratio:.2}"));
        writeln!(
            f,
            "{:<48} {ours:>14} {:>30} {:>6}  {:<16} {}",
            self.what,
            peer.unwrap_or_default(),
            ratio.unwrap_or_default(),
            self.limit(),
            self.verdict(),
        )
    }
}

/// All rows, and how busy the machine was.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Row>,
    load_before: String,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new(), load_before: load() }
    }

    /// Adds rows, and tells them at once: what follows may take minutes.
    pub(crate) fn add(&mut self, rows: Vec<Row>) {
        for row in &rows {
            eprint!("{row}");
        }
        self.rows.extend(rows);
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.rows.iter().all(Row::is_kept)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "v": 1,
            "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            "load_before": self.load_before,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "load of the machine before: {}", self.load_before)?;
        let head = ["what", "ours", "peer", "ratio", "limit"];
        writeln!(f, "{:<48} {:>14} {:>30} {:>6}  {:<16}", head[0], head[1], head[2], head[3], head[4])?;
        self.rows.iter().try_for_each(|row| write!(f, "{row}"))
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

/// The load averages of the kernel.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
