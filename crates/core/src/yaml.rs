//! Writes JSON values as YAML, in block style. A text that a reader of YAML 1.1 or 1.2 could take for something else stands in
//! double quotes. It knows no field.
use serde_json::{Map, Value};

/// Longest key that readers recognise without `?`, with room for quotes.
const LONGEST_KEY: usize = 1000;

/// The document of a value.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    node(&mut out, value, 0);
    out
}

/// Writes a value from the start of a line on.
fn node(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => entries(out, map, depth),
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                indent(out, depth);
                out.push('-');
                match item {
                    Value::Object(map) if !map.is_empty() => {
                        out.push(' ');
                        entries(out, map, depth + 1);
                    }
                    _ => rest(out, item, depth),
                }
            }
        }
        _ => {
            out.push_str(&leaf(value));
            out.push('\n');
        }
    }
}

/// Writes a map; its first key may stand behind a dash.
fn entries(out: &mut String, map: &Map<String, Value>, depth: usize) {
    for (key, value) in map {
        if !out.ends_with("- ") {
            indent(out, depth);
        }
        let key = scalar(key);
        if key.chars().count() > LONGEST_KEY {
            out.push_str("? ");
            out.push_str(&key);
            out.push('\n');
            indent(out, depth);
        } else {
            out.push_str(&key);
        }
        out.push(':');
        rest(out, value, depth);
    }
}

/// Writes a value behind the `:` or `-` of a line that is indented by `depth`.
fn rest(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::String(text) if fits_block(text) => block(out, text, depth + 1),
        _ => {
            let is_large = matches!(value, Value::Object(map) if !map.is_empty())
                || matches!(value, Value::Array(items) if !items.is_empty());
            out.push(if is_large { '\n' } else { ' ' });
            node(out, value, depth + 1);
        }
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// Writes the header and the lines of a block scalar.
fn block(out: &mut String, text: &str, depth: usize) {
    out.push_str(match text.strip_suffix('\n') {
        None => " |-\n",
        Some(rest) if rest.ends_with('\n') => " |+\n",
        Some(_) => " |\n",
    });
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        if !line.is_empty() {
            indent(out, depth);
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// Whether `text` reads back from a block scalar and is better to read there.
fn fits_block(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\t', '\n'])
        && text.chars().all(|c| c == '\n' || c == '\t' || is_printable(c))
}

/// Characters that may stand unescaped in a YAML text of either version, and steer no terminal.
fn is_printable(c: char) -> bool {
    let steers =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !steers
        && matches!(c, ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

/// Words that some reader takes for something else than text.
const RESERVED: [&str; 13] =
    ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "~", "nan", "inf", "<<"];

/// `text` on one line, in double quotes unless every reader takes it for text without them.
fn scalar(text: &str) -> String {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || matches!(c, '/' | '_'));
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.+@:=%,()$; ".contains(c));
    let safe = !text.contains(": ") && !text.ends_with([' ', ':']) && text.len() < 200;
    if is_amount(text) || first && plain && safe && !RESERVED.contains(&text.to_ascii_lowercase().as_str()) {
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

/// Whether `text` is a number with a unit, such as `16Gi`, that no reader takes for a number.
fn is_amount(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_digit() || ".kKMGTPimshd".contains(c))
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
        check("16Gi", "16Gi");
        check("1.5h", "1.5h");
        check("1e4", "\"1e4\"");
        check("0x1", "\"0x1\"");
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
        check("a\u{202e}b", "\"a\\u202eb\"");
    }

    #[test]
    fn documents() {
        let value = serde_json::json!({
            "id": 7, "name": "a: b", "on": true, "none": null, "empty": [], "text": "one\ntwo\n", "open": "a\nb\u{2066}\n",
            "list": [{"a": 1, "b": ["x", "y"]}, [1, [2]], "no", "a\nb"], "map": {"k": {"v": "1e3"}},
        });
        insta::assert_snapshot!(write(&value), @r#"
        id: 7
        name: "a: b"
        "on": true
        none: null
        empty: []
        text: |
          one
          two
        open: "a\nb\u2066\n"
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
          - |-
            a
            b
        map:
          k:
            v: "1e3"
        "#);
    }
}
