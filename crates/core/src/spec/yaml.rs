//! Writes YAML that means the same to readers of version 1.1 and 1.2. It knows no field of the run file.

/// A YAML document that grows line by line.
#[derive(Default)]
pub(super) struct Yaml {
    out: String,
    depth: usize,
    /// The next line continues one that ends with `- `.
    dashed: bool,
}

/// Longest key that readers recognise without `?`, with room for quotes.
const LONGEST_KEY: usize = 1000;

impl Yaml {
    /// `key: value`, or nothing for `None`.
    pub(super) fn text(&mut self, key: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.key(key);
        if fits_block(value) {
            self.block(value);
        } else {
            self.end(&scalar(value));
        }
    }

    /// `key: value` for a value that needs no quotes, such as a number.
    pub(super) fn bare(&mut self, key: &str, value: impl std::fmt::Display) {
        self.key(key);
        self.end(&value.to_string());
    }

    /// `key:` with the map that `body` writes, which must not be empty.
    pub(super) fn map(&mut self, key: &str, body: impl FnOnce(&mut Self)) {
        self.key(key);
        self.out.push('\n');
        self.depth += 1;
        body(self);
        self.depth -= 1;
    }

    /// `key:` with a list whose items are maps written by `body`; nothing for an empty list.
    pub(super) fn maps<T>(&mut self, key: &str, items: &[T], body: impl Fn(&mut Self, &T)) {
        if items.is_empty() {
            return;
        }
        self.map(key, |yaml| {
            for item in items {
                yaml.indent();
                yaml.out.push_str("- ");
                yaml.depth += 1;
                yaml.dashed = true;
                body(yaml, item);
                yaml.depth -= 1;
            }
        });
    }

    /// `key:` with a list of texts; nothing for an empty list.
    pub(super) fn texts(&mut self, key: &str, items: &[String]) {
        if items.is_empty() {
            return;
        }
        self.map(key, |yaml| {
            for item in items {
                yaml.indent();
                yaml.out.push('-');
                yaml.end(&scalar(item));
            }
        });
    }

    /// The document.
    pub(super) fn finish(self) -> String {
        self.out
    }

    fn indent(&mut self) {
        if std::mem::take(&mut self.dashed) {
            return;
        }
        self.out.extend(std::iter::repeat_n("  ", self.depth));
    }

    fn key(&mut self, key: &str) {
        let key = scalar(key);
        self.indent();
        if key.chars().count() > LONGEST_KEY {
            self.out.push_str("? ");
            self.out.push_str(&key);
            self.out.push('\n');
            self.indent();
        } else {
            self.out.push_str(&key);
        }
        self.out.push(':');
    }

    fn end(&mut self, value: &str) {
        self.out.push(' ');
        self.out.push_str(value);
        self.out.push('\n');
    }

    /// The rest of a line and the lines of a block scalar.
    fn block(&mut self, value: &str) {
        let chomp = match value.strip_suffix('\n') {
            None => "-",
            Some(rest) if rest.ends_with('\n') => "+",
            Some(_) => "",
        };
        self.end(&format!("|{chomp}"));
        self.depth += 1;
        for line in value.strip_suffix('\n').unwrap_or(value).split('\n') {
            if !line.is_empty() {
                self.indent();
                self.out.push_str(line);
            }
            self.out.push('\n');
        }
        self.depth -= 1;
    }
}

/// Whether `text` reads back from a block scalar and is better to read there.
fn fits_block(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\t', '\n'])
        && text.chars().all(|c| c == '\n' || c == '\t' || is_printable(c))
}

/// Characters that may stand unescaped in a YAML text of either version.
fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

/// Words that some reader takes for something else than text.
const RESERVED: [&str; 13] =
    ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "~", "nan", "inf", "<<"];

/// `text` on one line, in double quotes unless every reader takes it for text without them.
pub(super) fn scalar(text: &str) -> String {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || matches!(c, '/' | '_'));
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.+@:=%,()$; ".contains(c));
    let safe = !text.contains(": ") && !text.ends_with([' ', ':']) && text.len() < 200;
    if first && plain && safe && !RESERVED.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_printable(c) => out.push(c),
            c => out.push_str(&escape(c)),
        }
    }
    out.push('"');
    out
}

fn escape(c: char) -> String {
    let code = u32::from(c);
    if code <= 0xffff { format!("\\u{code:04x}") } else { format!("\\U{code:08x}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(scalar(text), expected, "{text:?}");
    }

    #[test]
    fn scalars() {
        check("plain text", "plain text");
        check("/code/x.py", "/code/x.py");
        check("quay.io/vessl-ai/torch:2.3.1-cuda12.1-r5", "quay.io/vessl-ai/torch:2.3.1-cuda12.1-r5");
        check("vessl-artifact://", "vessl-artifact://");
        check("1e-4", "\"1e-4\"");
        check("0.10", "\"0.10\"");
        check("On", "\"On\"");
        check("", "\"\"");
        check("a: b", "\"a: b\"");
        check("a:", "\"a:\"");
        check("a #b", "\"a #b\"");
        check("{NAME}", "\"{NAME}\"");
        check("tab\tnl\n\"\\", "\"tab\\tnl\\n\\\"\\\\\"");
        check("ü\u{7f}\u{2028}😀", "\"ü\\u007f\\u2028😀\"");
    }
}
