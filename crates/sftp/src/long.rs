//! A line about a file as `ls -l` has it, with numbers for people and the time of the world (UTC): no file of the image is read for it.
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY: i64 = 24 * 60 * 60;

/// The line.
pub(crate) fn line(name: &[u8], about: &Metadata) -> Vec<u8> {
    let (year, month, day) = date(about.mtime().div_euclid(DAY));
    let minutes = about.mtime().rem_euclid(DAY) / 60;
    let month = MONTHS[usize::try_from(month - 1).unwrap_or_default()];
    let mut line = format!(
        "{}{} {:4} {:<8} {:<8} {:8} {month} {day:2} {year} {:02}:{:02} ",
        kind(about),
        rights(about.mode()),
        about.nlink(),
        about.uid(),
        about.gid(),
        about.size(),
        minutes / 60,
        minutes % 60,
    )
    .into_bytes();
    line.extend_from_slice(name);
    line
}

fn kind(about: &Metadata) -> char {
    let kind = about.file_type();
    match () {
        () if kind.is_dir() => 'd',
        () if kind.is_symlink() => 'l',
        () if kind.is_fifo() => 'p',
        () if kind.is_socket() => 's',
        () if kind.is_char_device() => 'c',
        () if kind.is_block_device() => 'b',
        () => '-',
    }
}

fn rights(mode: u32) -> String {
    let mut text: Vec<u8> =
        (0..9).map(|nth| if mode & (0o400 >> nth) == 0 { b'-' } else { b"rwx"[nth % 3] }).collect();
    for (bit, at, letter) in [(0o4000, 2, b's'), (0o2000, 5, b's'), (0o1000, 8, b't')] {
        if mode & bit != 0 {
            text[at] = if text[at] == b'x' { letter } else { letter.to_ascii_uppercase() };
        }
    }
    String::from_utf8(text).unwrap_or_default()
}

/// Year, month and day of a day since 1970 (the algorithm of Howard Hinnant, "days to civil").
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        for (day, expected) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (20_787, (2026, 11, 30)),
            (-1, (1969, 12, 31)),
        ] {
            assert_eq!(date(day), expected, "{day}");
        }
    }

    #[test]
    fn rights_are_letters() {
        assert_eq!(rights(0o755), "rwxr-xr-x");
        assert_eq!(rights(0o4711), "rws--x--x");
        assert_eq!(rights(0o1666), "rw-rw-rwT");
    }
}
