//! Colours, where a person looks at a terminal that has them.

/// Colours text, or leaves it as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// Colours if this stream is a terminal and neither `NO_COLOR` nor `TERM=dumb` says otherwise.
    pub(crate) fn new(is_terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_none_or(|value| value == "dumb");
        Self { on: is_terminal && !refused }
    }

    /// Never colours.
    #[cfg(test)]
    pub(crate) fn off() -> Self {
        Self { on: false }
    }

    /// Always colours.
    #[cfg(test)]
    pub(crate) fn on() -> Self {
        Self { on: true }
    }

    /// The word of a status in the colour of what it means; other words stay as they are.
    pub(crate) fn status(self, word: &str) -> String {
        match word {
            "completed" => self.with("32", word),
            "failed" => self.with("31", word),
            "terminated" => self.with("33", word),
            "running" | "idle" | "stopping" => self.with("36", word),
            _ => word.to_owned(),
        }
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Heavier.
    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }
    /// Lighter.
    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }
    /// Errors.
    pub(crate) fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }
    /// Warnings.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.with("1;33", text)
    }
    /// Hints.
    pub(crate) fn cyan(self, text: &str) -> String {
        self.with("1;36", text)
    }
}
