//! Which modules a file uses: paths of the form `crate::module` and `super::…::module`, also inside macros.
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// `store/runs.rs` → `store`, `runs`; `store/mod.rs` → `store`; `lib.rs` → nothing.
pub(super) fn module_path(file: &str) -> Vec<String> {
    let mut path: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    let last = path.last().map(String::as_str);
    if matches!(last, Some("mod")) || (path.len() == 1 && matches!(last, Some("lib" | "main"))) {
        path.pop();
    }
    path
}

/// Whether code that is there for tests alone counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tests {
    Counted,
    Skipped,
}

/// The names after `crate::`, or after as many `super::` as lead to the root, in the module at `path`, with their lines.
pub(super) fn uses(text: &str, path: &[String], tests: Tests) -> Vec<(usize, String)> {
    let mut uses = Uses { found: Vec::new(), tests };
    // What cannot be read is told of by the check of its shape.
    if let Ok(tokens) = TokenStream::from_str(text) {
        uses.scan(tokens, path);
    }
    uses.found
}

/// The modules in other files that are declared for tests alone, below the module at `path`.
pub(super) fn test_modules(text: &str, path: &[String]) -> Vec<Vec<String>> {
    let tokens: Vec<TokenTree> = TokenStream::from_str(text).unwrap_or_default().into_iter().collect();
    let starts = (0..tokens.len()).filter(|at| is_for_tests(&tokens[*at..]));
    let declared = starts.filter_map(|at| {
        let item = &tokens[at..at + item_length(&tokens[at..])];
        let at = item.iter().position(|token| matches!(token, TokenTree::Ident(word) if *word == "mod"))?;
        match &item[at..] {
            [_, TokenTree::Ident(name), TokenTree::Punct(_)] => Some(name.to_string()),
            _ => None,
        }
    });
    declared.map(|name| path.iter().cloned().chain([name]).collect()).collect()
}

/// Whether an item begins with `#[cfg(test)]`.
fn is_for_tests(tokens: &[TokenTree]) -> bool {
    match tokens {
        [TokenTree::Punct(mark), TokenTree::Group(attribute), ..] if mark.as_char() == '#' => {
            attribute.stream().to_string().replace(' ', "") == "cfg(test)"
        }
        _ => false,
    }
}

/// How many tokens an item has, up to its body or its semicolon.
fn item_length(tokens: &[TokenTree]) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(body) => body.delimiter() == Delimiter::Brace,
        TokenTree::Punct(mark) => mark.as_char() == ';',
        _ => false,
    };
    tokens.iter().position(ends).map_or(tokens.len(), |end| end + 1)
}

/// Uses of top-level modules, with their lines.
struct Uses {
    found: Vec<(usize, String)>,
    tests: Tests,
}

impl Uses {
    /// Scans the tokens of the module at `path`.
    fn scan(&mut self, tokens: TokenStream, path: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let rest = &tokens[at..];
            if self.tests == Tests::Skipped && is_for_tests(rest) {
                at += item_length(rest);
                continue;
            }
            at += 1;
            match token {
                TokenTree::Ident(word) if *word == "mod" => {
                    if let [_, TokenTree::Ident(name), TokenTree::Group(body), ..] = rest {
                        let inner: Vec<String> = path.iter().cloned().chain([name.to_string()]).collect();
                        self.scan(body.stream(), &inner);
                        at += 2;
                    }
                }
                TokenTree::Ident(word) if *word == "crate" => self.follow(&rest[1..], 0),
                TokenTree::Ident(word) if *word == "super" => {
                    let ups = supers(rest);
                    if let Some(depth) = path.len().checked_sub(ups) {
                        self.follow(&rest[ups * 3 - 2..], depth);
                    }
                    at += (ups - 1) * 3;
                }
                TokenTree::Group(group) => self.scan(group.stream(), path),
                _ => {}
            }
        }
    }

    /// Notes what follows a prefix that leads `depth` modules below the root; only at the root the next name is a room.
    fn follow(&mut self, rest: &[TokenTree], depth: usize) {
        if depth > 0 {
            return;
        }
        match rest {
            [TokenTree::Punct(a), TokenTree::Punct(b), next, ..]
                if a.as_char() == ':' && b.as_char() == ':' =>
            {
                match next {
                    TokenTree::Ident(name) => self.note(name),
                    TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                        self.group(group.stream());
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// The first names of `{a, b::c, d::{e}}`.
    fn group(&mut self, tokens: TokenStream) {
        let mut begins = true;
        for token in tokens {
            match &token {
                TokenTree::Ident(name) if begins => self.note(name),
                _ => {}
            }
            begins = matches!(&token, TokenTree::Punct(comma) if comma.as_char() == ',');
        }
    }

    fn note(&mut self, name: &proc_macro2::Ident) {
        self.found.push((name.span().start().line, name.to_string()));
    }
}

/// How many `super` stand in a row: `super::super::x` has 2.
fn supers(tokens: &[TokenTree]) -> usize {
    let mut count = 1;
    while let Some([TokenTree::Punct(_), TokenTree::Punct(_), TokenTree::Ident(word)]) =
        tokens.get(count * 3 - 2..count * 3 + 1)
    {
        if *word != "super" {
            break;
        }
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_name_their_modules() {
        let check = |file: &str, expected: &[&str]| assert_eq!(module_path(file), expected, "{file}");
        check("lib.rs", &[]);
        check("store.rs", &["store"]);
        check("store/mod.rs", &["store"]);
        check("store/runs.rs", &["store", "runs"]);
        check("store/lib.rs", &["store", "lib"]);
    }

    #[test]
    fn what_is_for_tests_is_known() {
        let text =
            "#[cfg(test)]\nmod bed;\nmod rule;\n#[cfg(test)]\nmod tests { use crate::a; }\nuse crate::b;\n";
        let path = ["x".to_owned()];
        assert_eq!(test_modules(text, &path), [["x".to_owned(), "bed".to_owned()]]);
        let names = |tests| uses(text, &path, tests).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        assert_eq!(names(Tests::Counted), ["a", "b"]);
        assert_eq!(names(Tests::Skipped), ["b"]);
    }
}
