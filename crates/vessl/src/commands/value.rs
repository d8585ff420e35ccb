//! Reads secret values: from standard input, or from a prompt without echo. They never stand in a command line.
use std::io::{IsTerminal, Read};
use std::path::Path;

use vessl_core::secret::Secret;

use crate::error::{Error, Result};

/// Longest secret value, in bytes.
const LONGEST: u64 = 1 << 20;

/// Refuses a name that someone has written like `NAME=value`, without repeating the value.
pub(super) fn stands_apart(name: &str, command: &str) -> Result<()> {
    let Some((name, _)) = name.split_once('=') else { return Ok(()) };
    Err(Error::Usage {
        message: format!("`{name}=…` is not a name, and the value does not stand in the command line"),
        hint: format!("`{command} {name} < file`, or type the value when asked"),
    })
}

/// Asks for `what` on the terminal, or reads standard input to its end; one line end after it does not count.
pub(super) fn read(what: &str) -> Result<Secret> {
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
    check(text.into(), what)
}

/// Reads a file; white space at its ends does not count.
pub(super) fn of_file(path: &Path) -> Result<Secret> {
    let what = format!("file `{}`", path.display());
    let text = std::fs::read_to_string(path).map_err(Error::os(format!("read the {what}")))?;
    check(text.trim().into(), &what)
}

fn check(text: Secret, what: &str) -> Result<Secret> {
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
