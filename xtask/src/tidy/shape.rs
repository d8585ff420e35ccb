//! The shape of Rust files: header, length of files and functions, names of types and modules.
use syn::visit::{self, Visit};
use syn::{Attribute, Block, Ident, ItemMod, Signature};

use super::Finding;

/// Longest file in lines, inline test modules apart.
const LONGEST_FILE: usize = 800;
/// Longest function in lines, from its signature to its closing brace.
const LONGEST_FUNCTION: usize = 80;
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
    fn function(&mut self, signature: &Signature, block: &Block) {
        let start = signature.fn_token.span.start().line;
        let end = block.brace_token.span.close().end().line;
        let lines = end + 1 - start;
        if lines > LONGEST_FUNCTION {
            let message =
                format!("function `{}` has {lines} lines; at most {LONGEST_FUNCTION}", signature.ident);
            self.findings.push(Finding::new(self.path, start, message));
        }
    }

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

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.name(&item.ident);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.name(&item.ident);
    }

    fn visit_item_union(&mut self, item: &'ast syn::ItemUnion) {
        self.name(&item.ident);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.name(&item.ident);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.name(&item.ident);
        visit::visit_item_trait(self, item);
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

    fn function(lines: usize) -> String {
        format!("fn f() {{\n{}}}\n", "    x();\n".repeat(lines - 2))
    }

    #[test]
    fn a_file_opens_with_what_it_is_for() {
        check_text("//! Fine.\nfn f() {}\n", &[]);
        let message = "a file opens with `//!`: what it is for and what it must not know";
        check_text("// Not a header.\nfn f() {}\n", &[(1, message)]);
        check_text("", &[(1, message)]);
    }

    #[test]
    fn functions_are_measured_wherever_they_stand() {
        check_text(&format!("//! x\n{}", function(80)), &[]);
        check_text(&format!("//! x\n{}", function(81)), &[(2, "function `f` has 81 lines; at most 80")]);
        let inside = |before: &str| format!("//! x\n{before} {{\n{}}}\n", function(90));
        for before in ["impl X", "trait X", "mod x", "#[cfg(test)]\nmod tests"] {
            assert_eq!(check("x.rs", &inside(before)).len(), 1, "{before}");
        }
        let documented = format!("//! x\n{}{}", "/// Words.\n".repeat(50), function(60));
        check_text(&documented, &[]);
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
