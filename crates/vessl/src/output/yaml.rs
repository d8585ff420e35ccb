//! JSON values as YAML: block style, every text that could be read as something else in double quotes.
use std::fmt::Write;

use serde_json::Value;

use super::words::steers;

/// A document.
pub(super) fn print(value: &Value) -> String {
    let mut text = String::new();
    node(&mut text, value, 0);
    text
}

/// Writes a value that begins at the start of a line indented by `depth`.
fn node(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                indent(text, depth);
                text.push_str("- ");
                after_dash(text, item, depth + 1);
            }
        }
        Value::Object(map) if !map.is_empty() => {
            for (n, (key, value)) in map.iter().enumerate() {
                if n > 0 || !text.ends_with("- ") {
                    indent(text, depth);
                }
                let _ = write!(text, "{}:", scalar(&Value::String(key.clone())));
                after_key(text, value, depth);
            }
        }
        _ => {
            let _ = writeln!(text, "{}", scalar(value));
        }
    }
}

fn after_dash(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            text.pop();
            text.push('\n');
            node(text, value, depth);
        }
        _ => node(text, value, depth),
    }
}

fn after_key(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            node(text, value, depth);
        }
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            node(text, value, depth + 1);
        }
        Value::String(lines) if is_block(lines) => block(text, lines, depth + 1),
        _ => {
            let _ = writeln!(text, " {}", scalar(value));
        }
    }
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n("  ", depth));
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(s) if is_plain(s) => s.clone(),
        // A JSON string is a YAML double-quoted scalar once all else that steers is escaped too.
        Value::String(s) => Value::String(s.clone()).to_string().chars().map(escaped).collect(),
        other => other.to_string(),
    }
}

fn escaped(c: char) -> String {
    match c {
        c if steers(c) || c == '\u{feff}' => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    }
}

/// Whether text means itself without quotes in YAML 1.1 and 1.2.
fn is_plain(s: &str) -> bool {
    const WORDS: [&str; 11] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", ".inf", ".nan"];
    let first = s.chars().next();
    first.is_some_and(|c| c.is_ascii_alphabetic() || c == '/')
        && s.chars().all(|c| c.is_ascii_alphanumeric() || "/._-@+ ".contains(c))
        && !s.ends_with(' ')
        && !WORDS.contains(&s.to_ascii_lowercase().as_str())
}

/// Whether text reads best as a literal block.
fn is_block(s: &str) -> bool {
    s.ends_with('\n')
        && !s.ends_with("\n\n")
        && !s.starts_with([' ', '\n'])
        && s.lines().count() > 1
        && s.chars().all(|c| c == '\n' || (!steers(c) && c != '\u{feff}'))
}

fn block(text: &mut String, lines: &str, depth: usize) {
    text.push_str(" |\n");
    for line in lines.lines() {
        if !line.is_empty() {
            indent(text, depth);
            text.push_str(line);
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn prints_block_style() {
        let value = json!({
            "id": 7, "name": "a: b", "on": true, "none": null, "empty": [], "text": "one\ntwo\n",
            "list": [{"a": 1, "b": ["x", "y"]}, [1, [2]], "no"], "map": {"k": {"v": "1e3"}},
        });
        insta::assert_snapshot!(print(&value), @r#"
        id: 7
        name: "a: b"
        "on": true
        none: null
        empty: []
        text: |
          one
          two
        list:
        - a: 1
          b:
          - x
          - "y"
        -
          - 1
          -
            - 2
        - "no"
        map:
          k:
            v: "1e3"
        "#);
    }

    #[test]
    fn characters_that_steer_are_escaped() {
        let value = json!({ "name": "a\u{202e}b\u{7f}", "text": "one\ntwo\u{2066}\n" });
        insta::assert_snapshot!(print(&value), @r#"
        name: "a\u202eb\u007f"
        text: "one\ntwo\u2066\n"
        "#);
    }
}
