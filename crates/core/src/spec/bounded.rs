//! Bounded input for the YAML parser: it ends early when the parser would need too much memory. It knows no run file.
//!
//! The parser must see the end of `[…]` or `{…}` before it knows whether it was a key, and keeps every token until then. A
//! file that is one long list would cost about 200 bytes of memory a byte. So this input counts the tokens between two
//! events and the nesting of brackets, and ends when there are too many.
use std::cell::Cell;

use saphyr_parser::input::SkipTabs;
use saphyr_parser::{Input, StrInput};

/// Most tokens that the parser may hold back.
const MOST_TOKENS: u32 = 150_000;

/// Why the input ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Too many tokens in one flow collection.
    Tokens,
    /// Brackets nested too deep.
    Depth,
}

/// What was read so far; shared by the input and by the one who drives the parser.
#[derive(Default)]
pub(super) struct Gauge {
    tokens: Cell<u32>,
    depth: Cell<usize>,
    stop: Cell<Option<Stop>>,
}

impl Gauge {
    /// Tells that the parser gave an event, so that it holds nothing back.
    pub(super) fn event(&self) {
        self.tokens.set(0);
    }

    /// Why the input ended early, if it did.
    pub(super) fn stopped(&self) -> Option<Stop> {
        self.stop.get()
    }

    /// Counts the token that begins with `first`; true if it must not be read.
    fn token(&self, first: Option<char>) -> bool {
        self.tokens.set(self.tokens.get() + 1);
        match first {
            Some('[' | '{') => self.depth.set(self.depth.get() + 1),
            Some(']' | '}') => self.depth.set(self.depth.get().saturating_sub(1)),
            _ => {}
        }
        if self.tokens.get() > MOST_TOKENS {
            self.stop.set(Some(Stop::Tokens));
        } else if self.depth.get() > super::tree::DEEPEST {
            self.stop.set(Some(Stop::Depth));
        }
        self.stop.get().is_some()
    }
}

/// A text that ends early when its gauge says so.
pub(super) struct Bounded<'t> {
    text: Cell<StrInput<'t>>,
    gauge: &'t Gauge,
}

impl<'t> Bounded<'t> {
    /// The whole of `text`, counted by `gauge`.
    pub(super) fn new(text: &'t str, gauge: &'t Gauge) -> Self {
        Self { text: Cell::new(StrInput::new(text)), gauge }
    }
}

/// Passes calls on to the text.
macro_rules! pass_on {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)?;)*) => {
        $(#[inline] fn $name(&self, $($arg: $type),*) $(-> $out)? { self.text.get().$name($($arg),*) })*
    };
    (mut $($name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)?;)*) => {
        $(#[inline] fn $name(&mut self, $($arg: $type),*) $(-> $out)? { self.text.get_mut().$name($($arg),*) })*
    };
}

impl Input for Bounded<'_> {
    pass_on! {
        buflen() -> usize;
        bufmaxlen() -> usize;
        buf_is_empty() -> bool;
        peek() -> char;
        peek_nth(n: usize) -> char;
        peek_opt() -> Option<char>;
        nth_char_is(n: usize, c: char) -> bool;
        next_2_are(a: char, b: char) -> bool;
        next_3_are(a: char, b: char, c: char) -> bool;
        next_is_document_indicator() -> bool;
        next_is_document_start() -> bool;
        next_is_document_end() -> bool;
        next_can_be_plain_scalar(in_flow: bool) -> bool;
        next_is_blank_or_break() -> bool;
        next_is_blank_or_breakz() -> bool;
        next_is_blank() -> bool;
        next_is_break() -> bool;
        next_is_breakz() -> bool;
        next_is_z() -> bool;
        next_is_flow() -> bool;
        next_is_digit() -> bool;
        next_is_alpha() -> bool;
    }
    pass_on! {mut
        lookahead(count: usize);
        raw_read_ch() -> char;
        raw_read_non_breakz_ch() -> Option<char>;
        skip();
        skip_n(count: usize);
        look_ch() -> char;
        skip_ws_to_eol(skip_tabs: SkipTabs) -> (usize, Result<SkipTabs, &'static str>);
        skip_while_non_breakz() -> usize;
        skip_while_blank() -> usize;
        fetch_while_is_alpha(out: &mut String) -> usize;
        fetch_while_is_yaml_non_space(out: &mut String) -> usize;
    }

    /// The parser asks for a byte order mark once at the beginning of every token, and never else; that is where
    /// tokens are counted. `tokens_are_counted` fails if a later version of the parser does otherwise.
    #[inline]
    fn next_char_is(&self, c: char) -> bool {
        let text = self.text.get();
        if c == '\u{feff}' && self.gauge.token(text.peek_opt()) {
            self.text.set(StrInput::new(""));
            return false;
        }
        text.next_char_is(c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use saphyr_parser::Parser;

    /// Parses `text` without telling the gauge of events; the tokens counted, and why the parser was stopped.
    fn check(text: &str, tokens: u32, stop: Option<Stop>) {
        let gauge = Gauge::default();
        let mut parser = Parser::new(Bounded::new(text, &gauge));
        while parser.next_event().is_some_and(|event| event.is_ok()) {}
        assert_eq!((gauge.tokens.get(), gauge.stopped()), (tokens, stop), "{}", &text[..text.len().min(60)]);
    }

    #[test]
    fn tokens_are_counted() {
        check("a: b\n", 3, None);
        check("[a, b]", 5, None);
        check("- &x a\n- *x # note\n- 'b'\n- |\n  c\n", 9, None);
    }

    #[test]
    fn reading_stops_at_the_bounds() {
        let most = MOST_TOKENS + 1;
        check(&"[a, ".repeat(1 << 16), 3 * 64 + 1, Some(Stop::Depth));
        check(&"[{".repeat(1 << 16), 65, Some(Stop::Depth));
        check(&format!("[{}", "a, ".repeat(1 << 18)), most, Some(Stop::Tokens));
        check(&format!("{{{}", "a: b, ".repeat(1 << 17)), most, Some(Stop::Tokens));
    }
}
