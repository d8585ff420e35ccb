//! Small amounts in words: bytes, times, text that is safe on a terminal.
use jiff::Timestamp;
use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthStr;

/// Text without characters that steer, so that a name cannot change how the reader's terminal shows it and others.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if steers(c) { ' ' } else { c }).collect()
}

/// The same, but lines stay lines.
pub(crate) fn clean_lines(text: &str) -> String {
    text.chars().map(|c| if steers(c) && c != '\n' { ' ' } else { c }).collect()
}

/// Whether a character is no text: controls, ends of lines, and what turns the direction of the text around it.
pub(super) fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Columns that text takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// `12.3 MiB`; units of 1024.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = usize::try_from(n.checked_ilog2().unwrap_or(0) / 10).unwrap_or(0);
    let Some(name) = unit.checked_sub(1).and_then(|unit| UNITS.get(unit)) else {
        return format!("{n} B");
    };
    // In tenths, rounded down, so that nothing is shown as more than it is.
    let tenths = (u128::from(n) * 10) >> (10 * unit);
    match tenths {
        0..1000 => format!("{}.{} {name}", tenths / 10, tenths % 10),
        _ => format!("{} {name}", tenths / 10),
    }
}

/// Cores from thousandths: `4`, `0.5`.
pub(crate) fn cores(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A length of time: `8ms`, `3.4s`, `2m 03s`, `5h 12m`, `3d 04h`.
pub(crate) fn span(millis: u64) -> String {
    let s = millis / 1000;
    match s {
        0 => format!("{millis}ms"),
        1..60 => format!("{s}.{}s", millis % 1000 / 100),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        3600..86400 => format!("{}h {:02}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {:02}h", s / 86400, s % 86400 / 3600),
    }
}

/// Local date and time to the second.
pub(crate) fn date(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// Local date and time where room is short: to the minute without the year, or of another year the date.
pub(crate) fn short(at: Timestamp, now: Timestamp) -> String {
    let (at, now) = (at.to_zoned(TimeZone::system()), now.to_zoned(TimeZone::system()));
    let form = if at.year() == now.year() { "%m-%d %H:%M" } else { "%Y-%m-%d" };
    at.strftime(form).to_string()
}

/// The time between two moments, in words; empty if it has not begun.
pub(crate) fn between(from: Option<Timestamp>, to: Timestamp) -> String {
    from.map_or_else(String::new, |from| span(millis_between(from, to)))
}

fn millis_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_words() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (12_345, "12.0 KiB"),
            (1_048_575, "1023 KiB"),
            (1_048_576, "1.0 MiB"),
            (5_000_000_000, "4.6 GiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (n, words) in cases {
            assert_eq!(bytes(n), words, "{n}");
        }
    }

    #[test]
    fn cores_in_words() {
        for (milli, words) in [(0, "0"), (500, "0.5"), (1000, "1"), (4000, "4"), (10_250, "10.25")] {
            assert_eq!(cores(milli), words);
        }
    }

    #[test]
    fn spans_in_words() {
        let cases = [
            (8, "8ms"),
            (3456, "3.4s"),
            (123_000, "2m 03s"),
            (18_720_000, "5h 12m"),
            (273_600_000, "3d 04h"),
        ];
        for (millis, words) in cases {
            assert_eq!(span(millis), words);
        }
    }

    #[test]
    fn characters_that_steer_never_reach_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\nc"), "a [31mb c");
        assert_eq!(clean_lines("a\nb\rc"), "a\nb c");
        assert_eq!(clean("a\u{202e}b\u{2066}c\u{2028}d"), "a b c d");
        assert_eq!(clean_lines("a\u{202e}b\n\u{2069}c"), "a b\n c");
        assert_eq!(clean("שלום\u{200f}, 한글"), "שלום\u{200f}, 한글");
    }
}
