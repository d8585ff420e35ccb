//! `/proc/thread-self/mountinfo` as data. Source: `proc_pid_mountinfo(5)`. It reads and never mounts.
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountEntry {
    /// Its number in this namespace.
    pub(crate) id: u64,
    /// The number of the mount that it is mounted on.
    pub(crate) parent: u64,
    /// `major:minor` of the file system.
    pub(crate) device: String,
    /// What part of the file system is shown.
    pub(crate) root: PathBuf,
    /// Where.
    pub(crate) point: PathBuf,
    /// Kind of file system.
    pub(crate) fstype: String,
    /// Options of the file system, `a,b=c`.
    pub(crate) options: String,
}

/// The mounts of this thread's namespace, parents before what is mounted on them.
pub(crate) fn read() -> io::Result<Vec<MountEntry>> {
    let text = std::fs::read("/proc/thread-self/mountinfo")?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

pub(crate) fn parse(text: &str) -> Vec<MountEntry> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<MountEntry> {
    let (place, system) = line.split_once(" - ")?;
    let mut place = place.split(' ');
    let mut system = system.split(' ');
    Some(MountEntry {
        id: place.next()?.parse().ok()?,
        parent: place.next()?.parse().ok()?,
        device: place.next()?.to_owned(),
        root: unescape(place.next()?),
        point: unescape(place.next()?),
        fstype: system.next()?.to_owned(),
        options: system.nth(1)?.to_owned(),
    })
}

/// Undoes `\040` and the like.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\').and_then(octal);
        out.push(octal.unwrap_or(bytes[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    PathBuf::from(OsString::from_vec(out))
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_entries() {
        let line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue";
        let expected = MountEntry {
            id: 36,
            parent: 35,
            device: "98:0".to_owned(),
            root: "/mnt1".into(),
            point: "/mnt2".into(),
            fstype: "ext3".to_owned(),
            options: "rw,errors=continue".to_owned(),
        };
        assert_eq!(parse(line), [expected]);
        assert_eq!(parse("nonsense\n\n36 35"), []);
    }

    #[test]
    fn octal_escapes_are_undone() {
        let check = |text, expected: &str| assert_eq!(unescape(text), PathBuf::from(expected));
        check("/a\\040b", "/a b");
        check("/a\\134b\\011", "/a\\b\t");
        check("/a\\0", "/a\\0");
        check("/a\\999", "/a\\999");
    }
}
