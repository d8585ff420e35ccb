//! Which devices a container may open, by the `devices` controller of version 1: a second wall behind its mounts, none of
//! which but the given nodes lets a device be opened. Version 2 has no such controller (it takes a BPF program, which
//! needs more privilege than it would add safety), so there the mounts are the only wall.
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::make::write_file;

/// What every container has: making any node (it opens nothing), the standard nodes, terminals. Source: Docker's default.
const STANDARD: [&str; 10] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// Allows the standard devices and `nodes`, and nothing else, in the group at `dir`. Where the whole list may not be
/// taken away (inside another container) nothing is changed.
pub(super) fn restrict(dir: &Path, nodes: &[PathBuf]) -> io::Result<()> {
    if write_file(&dir.join("devices.deny"), "a").is_err() {
        return Ok(());
    }
    let given = nodes.iter().filter_map(|node| rule(node));
    let mut rules = STANDARD.into_iter().map(str::to_owned).chain(given);
    rules.try_for_each(|rule| write_file(&dir.join("devices.allow"), &rule))
}

/// `None` for what is not a device; the start says so.
fn rule(node: &Path) -> Option<String> {
    let meta = std::fs::metadata(node).ok()?;
    let kind = if meta.file_type().is_char_device() { 'c' } else { 'b' };
    let number = meta.rdev();
    (number != 0).then(|| format!("{kind} {}:{} rwm", libc::major(number), libc::minor(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_names_the_numbers_of_the_node() {
        assert_eq!(rule(Path::new("/dev/null")).as_deref(), Some("c 1:3 rwm"));
        assert_eq!(rule(Path::new("/etc/passwd")), None);
        assert_eq!(rule(Path::new("/dev/not-there")), None);
    }
}
