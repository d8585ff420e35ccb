//! Words for whoever sits at a terminal of the container.
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

/// Writes a line on every terminal there is. Nobody is waited for: a terminal that nobody reads is full at some time.
pub(crate) fn on_terminals(words: &str) {
    let Ok(entries) = fs::read_dir("/dev/pts") else { return };
    for entry in entries.filter_map(Result::ok) {
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOFOLLOW;
        if let Ok(mut terminal) = OpenOptions::new().write(true).custom_flags(flags).open(entry.path()) {
            // One that is gone meanwhile needs no words.
            let _ = terminal.write_all(format!("\r\n*** {words} ***\r\n").as_bytes());
        }
    }
}
