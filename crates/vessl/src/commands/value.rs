//! Values that must not stand in a command line: read from standard input, or asked for without showing them.
use std::io::{IsTerminal, Read};

use crate::error::{Error, Result};

/// Longest secret value, in bytes.
const LONGEST: u64 = 1 << 20;

/// Asks for `what` on the terminal, or reads standard input to its end; one line end after it does not count.
pub(super) fn read(what: &str) -> Result<String> {
    let mut text = if std::io::stdin().is_terminal() {
        rpassword::prompt_password(format!("{what}: ")).map_err(Error::os(format!("read the {what}")))?
    } else {
        let mut text = String::new();
        let stdin = std::io::stdin().lock().take(LONGEST + 1).read_to_string(&mut text);
        stdin.map_err(Error::os(format!("read the {what} from the standard input")))?;
        text
    };
    if text.ends_with('\n') {
        text.truncate(text.len() - if text.ends_with("\r\n") { 2 } else { 1 });
    }
    check(text, what)
}

fn check(text: String, what: &str) -> Result<String> {
    let usage = |message: String| Error::Usage {
        message,
        hint: "give it on the standard input, like `… < file`, or type it when asked".to_owned(),
    };
    match u64::try_from(text.len()) {
        Ok(0) => Err(usage(format!("the {what} is empty"))),
        Ok(n) if n <= LONGEST => Ok(text),
        _ => Err(usage(format!("the {what} is longer than 1 MiB"))),
    }
}
