//! Which crate may depend on which: the edges of the architecture, read from the manifests.
use super::Finding;

/// Crate → crates of ours that it may use at run time.
const EDGES: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("container", &["data", "core"]),
    ("data", &["core"]),
    ("init", &["copy", "sftp", "core"]),
    ("copy", &[]),
    ("sftp", &[]),
    ("reach", &["core"]),
    ("ssh", &["reach", "core"]),
    ("jupyter", &["reach", "data", "core"]),
    ("agent", &["jupyter", "container", "data", "core"]),
    ("server", &["ssh", "reach", "data", "core"]),
    ("vessl", &["copy", "jupyter", "reach", "ssh", "server", "agent", "data", "core"]),
];

/// Checks one manifest.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let Some(name) = path.strip_prefix("crates/").and_then(|rest| rest.strip_suffix("/Cargo.toml")) else {
        return Vec::new();
    };
    let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
        return vec![Finding::new(path, 1, format!("`{name}` is no room of the architecture"))];
    };
    dependencies(text)
        .filter(|(_, used)| !allowed.contains(used))
        .map(|(line, used)| Finding::new(path, line, format!("`{name}` must not depend on `{used}`")))
        .collect()
}

/// Our crates in the tables of dependencies that are not for tests alone, with their lines.
fn dependencies(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut counts = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if let Some(table) = line.trim().strip_prefix('[') {
            counts =
                table.trim_end_matches(']').ends_with("dependencies") && !table.contains("dev-dependencies");
        }
        let name = line.trim().strip_prefix("vessl-").filter(|_| counts)?;
        let end =
            name.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-').unwrap_or(name.len());
        Some((index + 1, &name[..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(name: &str, text: &str, expected: &[(usize, &str)]) {
        let found = check(&format!("crates/{name}/Cargo.toml"), text);
        let found: Vec<_> = found.iter().map(|finding| (finding.line, finding.message.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn edges_go_one_way() {
        check_text(
            "server",
            "[dependencies]\nvessl-core.workspace = true\nvessl-data = { path = \"x\" }\n",
            &[],
        );
        check_text(
            "server",
            "[dependencies]\nserde = \"1\"\nvessl-agent.workspace = true\n",
            &[(3, "`server` must not depend on `agent`")],
        );
        check_text(
            "core",
            "[dependencies]\nvessl-data.workspace = true\n",
            &[(2, "`core` must not depend on `data`")],
        );
        check_text(
            "core",
            "[build-dependencies]\nvessl-data = \"1\"\n",
            &[(2, "`core` must not depend on `data`")],
        );
    }

    #[test]
    fn tests_and_names_are_no_edges() {
        check_text(
            "core",
            "[package]\nname = \"vessl-core\"\n[dev-dependencies]\nvessl-data = \"1\"\n[lints]\n",
            &[],
        );
        assert!(check("xtask/Cargo.toml", "[dependencies]\nvessl-core = \"1\"\n").is_empty());
        check_text("queue", "", &[(1, "`queue` is no room of the architecture")]);
    }
}
