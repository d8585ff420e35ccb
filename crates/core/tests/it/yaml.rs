//! YAML as an editor reads it: to JSON, with the core types of YAML 1.2. The reader of run files is not used.
use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// An open list, or an open map with the key that waits for its value.
enum Open {
    List(Vec<Value>, usize),
    Map(Map<String, Value>, Option<Key>, usize),
}

/// A key of a map.
enum Key {
    Own(String),
    /// `<<` without quotes.
    Merge,
}

/// The one document of `text`, which must be YAML.
pub(crate) fn value(text: &str) -> Value {
    let (mut open, mut anchors, mut root) = (Vec::new(), BTreeMap::new(), Value::Null);
    for event in Parser::new_from_str(text) {
        let event = event.unwrap_or_else(|error| panic!("{error}\n{text}")).0;
        let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (scalar(&text, style), anchor),
            Event::Alias(anchor) => {
                (anchors.get(&anchor).cloned().expect("an anchor stands before its alias"), 0)
            }
            Event::SequenceStart(anchor, _) => {
                open.push(Open::List(Vec::new(), anchor));
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open::Map(Map::new(), None, anchor));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop().expect("what ends has begun") {
                Open::List(items, anchor) => (Value::Array(items), anchor),
                Open::Map(map, _, anchor) => (Value::Object(map), anchor),
            },
            _ => continue,
        };
        if anchor > 0 {
            anchors.insert(anchor, value.clone());
        }
        match open.last_mut() {
            None => root = value,
            Some(Open::List(items, _)) => items.push(value),
            Some(Open::Map(_, key @ None, _)) if merge => *key = Some(Key::Merge),
            Some(Open::Map(map, key, _)) => pair(map, key, value),
        }
    }
    root
}

/// Takes a key, or the value of the key before.
fn pair(map: &mut Map<String, Value>, key: &mut Option<Key>, value: Value) {
    match key.take() {
        None => *key = Some(Key::Own(value.as_str().map_or_else(|| value.to_string(), str::to_owned))),
        Some(Key::Merge) => merge(map, value),
        Some(Key::Own(key)) => {
            map.insert(key, value);
        }
    }
}

/// Adds what `<<` refers to.
fn merge(map: &mut Map<String, Value>, value: Value) {
    match value {
        Value::Object(more) => {
            for (key, value) in more {
                map.entry(key).or_insert(value);
            }
        }
        Value::Array(maps) => maps.into_iter().for_each(|more| merge(map, more)),
        other => panic!("`<<` refers to {other}"),
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return text.into();
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return true.into(),
        "false" | "False" | "FALSE" => return false.into(),
        _ => {}
    }
    let digits = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    let whole = text.parse::<i64>().ok().map(Value::from);
    let float = || text.parse().ok().and_then(Number::from_f64).map(Value::Number);
    whole.or_else(float).filter(|_| digits).unwrap_or_else(|| text.into())
}
