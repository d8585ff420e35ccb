//! Errors as one line for people.
use std::error::Error;

/// `error` and its causes in one line, [without numbers](without_os_numbers). A cause that the text above it already says is not said
/// again.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    without_os_numbers(&text)
}

/// `text` without Rust's `(os error N)`, which says no more than the words before it.
pub fn without_os_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(')').map_or("", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Chained {
        text: &'static str,
        source: std::io::Error,
    }

    #[test]
    fn causes_are_said_once() {
        let check = |text, expected: &str| {
            let error = Chained { text, source: std::io::Error::other("no space") };
            assert_eq!(chain(&error), expected);
        };
        check("cannot write", "cannot write: no space");
        check("cannot write: no space", "cannot write: no space");
        check("`x`: Not found (os error 2); later (os error 5)", "`x`: Not found; later: no space");
    }
}
