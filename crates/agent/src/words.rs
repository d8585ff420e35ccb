//! Sizes and times as people read them.
use std::time::Duration;

/// `1.5 GB`, by thousands.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        None => format!("{bytes} B"),
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
    }
}

/// `3.2 s`, or minutes from two on.
pub(crate) fn time(time: Duration) -> String {
    match time.as_secs() {
        0..120 => format!("{:.1} s", time.as_secs_f64()),
        secs => format!("{} min {} s", secs / 60, secs % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        let sizes = [0, 999, 1_000, 1_549_000, 2_000_000_000, 7_250_000_000_000];
        assert_eq!(sizes.map(size), ["0 B", "999 B", "1.0 kB", "1.5 MB", "2.0 GB", "7.2 TB"]);
        let times = [12, 1_250, 119_000, 125_000].map(Duration::from_millis);
        assert_eq!(times.map(time), ["0.0 s", "1.2 s", "119.0 s", "2 min 5 s"]);
    }
}
