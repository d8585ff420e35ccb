//! The shape of Rust files: header, length, names of types and modules.
use syn::visit::{self, Visit};
use syn::{Attribute, Ident, Item, ItemMod};

use super::Finding;

/// Longest file in lines, inline test modules apart.
const LONGEST_FILE: usize = 800;
/// Words that say nothing in the name of a type or module.
const EMPTY_WORDS: &[&str] = &["Manager", "Handler", "Helper", "Helpers", "Util", "Utils", "Misc", "Common"];

/// Checks one Rust file.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(Finding::new(
            path,
            1,
            "a file opens with `//!`: what it is for and what it must not know",
        ));
    }
    let parsed = match syn::parse_file(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            findings.push(Finding::new(
                path,
                error.span().start().line,
                format!("cannot be parsed: {error}"),
            ));
            return findings;
        }
    };
    let mut shape = Shape { path, findings, test_lines: 0 };
    shape.visit_file(&parsed);
    let lines = text.lines().count() - shape.test_lines;
    if lines > LONGEST_FILE {
        let message = format!("{lines} lines without inline tests; at most {LONGEST_FILE}");
        shape.findings.push(Finding::new(path, 1, message));
    }
    shape.findings
}

struct Shape<'a> {
    path: &'a str,
    findings: Vec<Finding>,
    /// Lines inside `#[cfg(test)] mod … { … }`.
    test_lines: usize,
}

impl Shape<'_> {
    fn name(&mut self, ident: &Ident) {
        let name = ident.to_string();
        if let Some(word) = words_of(&name)
            .into_iter()
            .find(|word| EMPTY_WORDS.iter().any(|empty| empty.eq_ignore_ascii_case(word)))
        {
            let message = format!("`{name}`: `{word}` says nothing; name what it is");
            self.findings.push(Finding::new(self.path, ident.span().start().line, message));
        }
    }
}

impl<'ast> Visit<'ast> for Shape<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.name(&item.ident);
        let test = item.attrs.iter().find(|attribute| is_cfg_test(attribute));
        if let (Some(test), Some((braces, _))) = (test, &item.content) {
            self.test_lines += braces.span.close().end().line + 1 - test.pound_token.spans[0].start().line;
        }
        visit::visit_item_mod(self, item);
    }

    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Struct(item) => self.name(&item.ident),
            Item::Enum(item) => self.name(&item.ident),
            Item::Union(item) => self.name(&item.ident),
            Item::Type(item) => self.name(&item.ident),
            Item::Trait(item) => self.name(&item.ident),
            _ => {}
        }
        visit::visit_item(self, item);
    }
}

fn is_cfg_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg") && attribute.parse_args::<Ident>().is_ok_and(|what| what == "test")
}

/// `BlobHandler` → `Blob`, `Handler`; `blob_util` → `blob`, `util`.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for letter in name.chars() {
        if letter == '_' || letter.is_uppercase() {
            words.push(String::new());
        }
        if let (Some(word), true) = (words.last_mut(), letter != '_') {
            word.push(letter);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: &str, expected: &[(usize, &str)]) {
        let found = check("x.rs", text);
        let found: Vec<_> = found.iter().map(|finding| (finding.line, finding.message.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_opens_with_what_it_is_for() {
        check_text("//! Fine.\nfn f() {}\n", &[]);
        let message = "a file opens with `//!`: what it is for and what it must not know";
        check_text("// Not a header.\nfn f() {}\n", &[(1, message)]);
        check_text("", &[(1, message)]);
    }

    #[test]
    fn files_are_measured_without_their_tests() {
        let lines = "const X: u8 = 1;\n".repeat(799);
        check_text(&format!("//! x\n{lines}"), &[]);
        let long = format!("//! x\n{lines}const Y: u8 = 1;\n");
        check_text(&long, &[(1, "801 lines without inline tests; at most 800")]);
        check_text(&format!("//! x\n{lines}#[cfg(test)]\nmod tests {{\n{lines}}}\n"), &[]);
        let other = format!("//! x\n{lines}mod more {{\n}}\n");
        check_text(&other, &[(1, "802 lines without inline tests; at most 800")]);
    }

    #[test]
    fn names_that_say_nothing_are_refused() {
        check_text(
            "//! x\nstruct BlobManager;\n",
            &[(2, "`BlobManager`: `Manager` says nothing; name what it is")],
        );
        check_text(
            "//! x\nmod string_utils {}\n",
            &[(2, "`string_utils`: `utils` says nothing; name what it is")],
        );
        check_text(
            "//! x\ntrait Handler {}\nenum HelperKind {}\n",
            &[
                (2, "`Handler`: `Handler` says nothing; name what it is"),
                (3, "`HelperKind`: `Helper` says nothing; name what it is"),
            ],
        );
        check_text("//! x\nuse a::SigHandler;\nstruct Handlebar;\nstruct Utility;\nfn manager() {}\n", &[]);
    }

    #[test]
    fn what_cannot_be_parsed_is_said() {
        let found = check("x.rs", "//! x\nfn (\n");
        assert_eq!((found.len(), found[0].line), (1, 2));
        assert!(found[0].message.starts_with("cannot be parsed: "));
    }
}
