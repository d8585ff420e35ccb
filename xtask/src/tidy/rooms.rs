//! Which room of the server may use which: paths of the form `crate::room` and `super::…::room`, also inside macros.
use std::collections::BTreeSet;
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::Finding;
use super::tree::SourceFile;

const SERVER: &str = "crates/server/src/";

/// Room → rooms that it may use.
const ROOMS: &[(&str, &[&str])] = &[
    ("api", &["control", "registry", "store"]),
    ("control", &["engine", "store"]),
    ("engine", &[]),
    ("registry", &["store"]),
    ("store", &[]),
];

/// Modules that put the rooms together: they use every room, and no room uses them.
const ASSEMBLY: &[&str] = &["open", "serve"];

/// Checks every module of the server. A module that is neither a room nor an assembly may be used by all and uses no room.
pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let inside =
        |file: &SourceFile| file.path.strip_prefix(SERVER).filter(|_| file.is_rust()).map(module_path);
    let modules: BTreeSet<String> =
        files.iter().filter_map(inside).filter_map(|path| path.into_iter().next()).collect();
    let mut findings = Vec::new();
    for file in files {
        let Some(path) = inside(file) else { continue };
        // Only the root has no module of its own; it declares them all.
        let Some(from) = path.first() else { continue };
        let Ok(tokens) = TokenStream::from_str(&file.text) else { continue };
        let mut uses = Uses { found: Vec::new() };
        uses.scan(tokens, &path);
        let wrong = uses.found.into_iter().filter(|(_, to)| modules.contains(to) && !may_use(from, to));
        findings.extend(
            wrong.map(|(line, to)| Finding::new(&file.path, line, format!("`{from}` must not use `{to}`"))),
        );
    }
    findings
}

fn may_use(from: &str, to: &str) -> bool {
    let room = |name: &str| ROOMS.iter().find(|(room, _)| *room == name).map(|(_, allowed)| *allowed);
    if from == to || ASSEMBLY.contains(&from) {
        return true;
    }
    match (room(from), room(to)) {
        (Some(allowed), Some(_)) => allowed.contains(&to),
        (None, Some(_)) => false,
        (_, None) => !ASSEMBLY.contains(&to),
    }
}

/// `store/runs.rs` → `store`, `runs`; `store/mod.rs` → `store`; `lib.rs` → nothing.
fn module_path(file: &str) -> Vec<String> {
    let mut path: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    let last = path.last().map(String::as_str);
    if matches!(last, Some("mod")) || (path.len() == 1 && matches!(last, Some("lib" | "main"))) {
        path.pop();
    }
    path
}

/// Uses of top-level modules, with their lines.
struct Uses {
    found: Vec<(usize, String)>,
}

impl Uses {
    /// Scans the tokens of the module at `path`.
    fn scan(&mut self, tokens: TokenStream, path: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let rest = &tokens[at..];
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

    const LAYOUT: &[&str] = &[
        "lib.rs",
        "api/mod.rs",
        "api/runs.rs",
        "control/mod.rs",
        "engine.rs",
        "registry.rs",
        "store/mod.rs",
        "paths.rs",
        "serve.rs",
    ];

    fn check_text(path: &str, text: &str, expected: &[(usize, &str)]) {
        let mut files: Vec<SourceFile> = LAYOUT
            .iter()
            .map(|file| SourceFile { path: format!("{SERVER}{file}"), text: "//! x\n".to_owned() })
            .collect();
        files.push(SourceFile { path: format!("{SERVER}{path}"), text: text.to_owned() });
        let found = check(&files);
        let found: Vec<_> = found.iter().map(|finding| (finding.line, finding.message.as_str())).collect();
        assert_eq!(found, expected, "{path}: {text}");
    }

    #[test]
    fn rooms_are_used_one_way() {
        check_text("api/x.rs", "use crate::control::Control;\nuse crate::store::Store;\n", &[]);
        check_text("api/x.rs", "use crate::engine::Engine;\n", &[(1, "`api` must not use `engine`")]);
        check_text("engine/x.rs", "use crate::store::Store;\n", &[(1, "`engine` must not use `store`")]);
        check_text("control/x.rs", "use crate::api;\n", &[(1, "`control` must not use `api`")]);
        check_text("control/x.rs", "use crate::engine::Engine;\n", &[]);
        check_text("registry/x.rs", "use crate::control::C;\n", &[(1, "`registry` must not use `control`")]);
        check_text("store/x.rs", "use crate::registry::R;\n", &[(1, "`store` must not use `registry`")]);
    }

    #[test]
    fn every_spelling_is_seen() {
        let wrong = [(1, "`engine` must not use `store`")];
        check_text("engine/x.rs", "use crate::{paths::Paths, store::{Store, runs}};\n", &wrong);
        check_text("engine/x.rs", "fn f(x: &crate::store::Store) {}\n", &wrong);
        check_text("engine/x.rs", "fn f() { log!(\"{}\", crate::store::NAME); }\n", &wrong);
        check_text("engine/x.rs", "use super::super::store::Store;\n", &wrong);
        check_text("engine/x.rs", "mod tests { use super::super::super::store::Store; }\n", &wrong);
        check_text("engine/mod.rs", "use super::store::Store;\n", &wrong);
        check_text("engine/x.rs", "use crate::{self as all, store};\n", &wrong);
        check_text(
            "engine/x.rs",
            "\n\nuse crate :: store :: Store;\n",
            &[(3, "`engine` must not use `store`")],
        );
    }

    #[test]
    fn names_inside_a_room_are_its_own() {
        check_text("engine/x.rs", "use super::store::Local;\nmod tests { use super::super::store; }\n", &[]);
        check_text(
            "engine/x.rs",
            "use super::{store, Engine};\n// crate::store\nconst X: &str = \"crate::store\";\n",
            &[],
        );
        check_text("engine/x.rs", "use crate::engine::y;\nuse crate::Error;\n", &[]);
    }

    #[test]
    fn the_rest_stands_below_or_above_the_rooms() {
        check_text("store/x.rs", "use crate::paths::Paths;\n", &[]);
        check_text("paths/x.rs", "use crate::store::Store;\n", &[(1, "`paths` must not use `store`")]);
        check_text("serve/x.rs", "use crate::{api, control, engine, store};\n", &[]);
        check_text("control/x.rs", "use crate::serve::run;\n", &[(1, "`control` must not use `serve`")]);
        check_text("main.rs", "use crate::api;\n", &[]);
    }

    #[test]
    fn files_name_their_modules() {
        let check = |file: &str, expected: &[&str]| assert_eq!(module_path(file), expected, "{file}");
        check("lib.rs", &[]);
        check("store.rs", &["store"]);
        check("store/mod.rs", &["store"]);
        check("store/runs.rs", &["store", "runs"]);
        check("store/lib.rs", &["store", "lib"]);
    }
}
