//! Sizes and times as people read them.
use std::time::Duration;

/// `1.5 GiB`, by 1024.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
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
        let sizes = [0, 1_023, 1_024, 1_626_000, 2 << 30, 29 << 38];
        assert_eq!(sizes.map(size), ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "2.0 GiB", "7.2 TiB"]);
        let times = [12, 1_250, 119_000, 125_000].map(Duration::from_millis);
        assert_eq!(times.map(time), ["0.0 s", "1.2 s", "119.0 s", "2 min 5 s"]);
    }
}
