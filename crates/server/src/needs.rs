//! What a plan needs of the content-addressed store. It reads a plan as it is stored: a kind of import that comes later needs nothing
//! here.
use serde_json::Value;
use vessl_core::plan::Plan;

/// Trees of the store that a plan needs.
pub(crate) fn manifests(plan: &Plan) -> Vec<String> {
    parts(plan).iter().flat_map(named).collect()
}

/// Those that an agent reads.
pub(crate) fn read_by_agent(plan: &Plan) -> Vec<String> {
    let [imports, mounts, _] = parts(plan);
    [imports, mounts].iter().flat_map(named).collect()
}

fn named(part: &Value) -> Vec<String> {
    let mut found = Vec::new();
    each(part, &mut |key, value| {
        found.extend(value.as_str().filter(|_| key == "manifest").map(str::to_owned));
    });
    found
}

/// What a plan brings in, shows and takes out.
pub(crate) fn parts(plan: &Plan) -> [Value; 3] {
    let json = |part: serde_json::Result<Value>| part.unwrap_or_default();
    [
        json(serde_json::to_value(&plan.imports)),
        json(serde_json::to_value(&plan.mounts)),
        json(serde_json::to_value(&plan.exports)),
    ]
}

/// Tells of every value with its key.
pub(crate) fn each(value: &Value, tell: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Array(list) => list.iter().for_each(|item| each(item, tell)),
        Value::Object(fields) => {
            for (key, value) in fields {
                tell(key, value);
                each(value, tell);
            }
        }
        _ => {}
    }
}
