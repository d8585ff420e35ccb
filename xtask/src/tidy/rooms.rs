//! Which room of the server may use which.
use std::collections::BTreeSet;

use super::Finding;
use super::tree::SourceFile;
use super::uses::{Tests, module_path, uses};

const SERVER: &str = "crates/server/src/";

/// Room → rooms that it may use.
const ROOMS: &[(&str, &[&str])] = &[
    ("api", &["control", "registry", "attempt", "store"]),
    ("proxy", &["control"]),
    ("ssh", &["control"]),
    ("control", &["engine", "attempt", "store"]),
    ("engine", &["attempt"]),
    ("attempt", &[]),
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
        let found = uses(&file.text, &path, Tests::Counted);
        let wrong = found.into_iter().filter(|(_, to)| modules.contains(to) && !may_use(from, to));
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
}
