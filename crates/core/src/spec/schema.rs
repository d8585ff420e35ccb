//! JSON Schema of the run file as people write it, for editors and for checks before submit. It checks nothing itself.
//!
//! The types of the run file say most of it. The functions here add to a type what people may write instead: text for a
//! map, old spellings (marked `deprecated`), null for what is optional.
use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use schemars::{Schema, json_schema};
use serde_json::{Map, Value, json};

use super::kinds::KINDS;
use super::types::Spec;

/// The JSON Schema (draft 2020-12) of a run file.
pub fn schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Spec>();
    flags(&mut schema);
    any_scalar(&mut schema);
    optional_may_be_null(&mut schema);
    schema.insert("title".to_owned(), "vessl run file".into());
    schema.to_value()
}

/// A flag may be written in the words of YAML 1.1, which are text to an editor.
fn flags(schema: &mut Schema) {
    if let Some(kind @ Value::String(_)) = schema.get_mut("type")
        && kind == "boolean"
    {
        *kind = json!(["boolean", "string"]);
        schema.insert("pattern".to_owned(), FLAG.into());
    }
    transform_subschemas(&mut flags, schema);
}

/// `true`, `yes`, `on`, `y` and their opposites, in any case.
const FLAG: &str = "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|[Yy]([Ee][Ss])?|[Nn][Oo]?|[Oo]([Nn]|[Ff][Ff]))$";

/// A number or a boolean where text is needed is read as its text.
fn any_scalar(schema: &mut Schema) {
    let bounded = ["pattern", "enum", "const", "format"].iter().any(|key| schema.get(*key).is_some());
    if !bounded {
        match schema.get_mut("type") {
            Some(kind @ Value::String(_)) if kind == "string" => {
                *kind = json!(["string", "number", "boolean"]);
            }
            Some(Value::Array(kinds)) if kinds.contains(&json!("string")) => {
                for more in ["number", "boolean"] {
                    if !kinds.contains(&json!(more)) && !kinds.contains(&json!("integer")) {
                        kinds.push(json!(more));
                    }
                }
            }
            _ => {}
        }
    }
    transform_subschemas(&mut any_scalar, schema);
}

/// A key without a value is the same as no key.
fn optional_may_be_null(schema: &mut Schema) {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (_, property) in properties.iter_mut().filter(|(key, _)| !required.contains(&json!(key))) {
            nullable(property);
        }
    }
    transform_subschemas(&mut optional_may_be_null, schema);
}

fn nullable(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    let is_enum = object.contains_key("enum");
    match object.get_mut("type") {
        Some(Value::Array(kinds)) if kinds.contains(&json!("null")) => {}
        Some(Value::Array(kinds)) if !is_enum => kinds.push(json!("null")),
        Some(kind @ Value::String(_)) if !is_enum => *kind = json!([kind.clone(), "null"]),
        _ => {
            let notes: Map<String, Value> = ["description", "deprecated", "default"]
                .iter()
                .filter_map(|key| object.remove(*key).map(|note| ((*key).to_owned(), note)))
                .collect();
            let inner = std::mem::take(object);
            object.extend(notes);
            object.insert("anyOf".to_owned(), json!([inner, {"type": "null"}]));
        }
    }
}

/// The schema as one of two forms, under its own description.
fn or(schema: &mut Schema, other: &Value) {
    let description = schema.remove("description");
    let map = std::mem::take(schema).to_value();
    *schema = json_schema!({"anyOf": [other, map]});
    if let Some(description) = description {
        schema.insert("description".to_owned(), description);
    }
}

fn properties(schema: &mut Schema) -> Option<&mut Map<String, Value>> {
    schema.get_mut("properties").and_then(Value::as_object_mut)
}

fn add(schema: &mut Schema, key: &str, property: Value) {
    if let Some(properties) = properties(schema) {
        properties.insert(key.to_owned(), property);
    }
}

fn old(description: &str, mut property: Value) -> Value {
    if let Some(object) = property.as_object_mut() {
        object.insert("description".to_owned(), description.into());
        object.insert("deprecated".to_owned(), true.into());
    }
    property
}

fn duration() -> Value {
    json!({"type": ["string", "integer"], "examples": ["24h", "1h30m", "10s", 0]})
}

/// What a run file may have beside the modern keys.
pub(super) fn spec(schema: &mut Schema) {
    let volumes = json!({"type": "object", "propertyNames": {"pattern": "^/"}});
    add(schema, "volumes", old("Spelling of 2023; write `import`, `mount` and `export`.", volumes));
}

/// `run` is a list, or text for its only command.
pub(super) fn items(schema: &mut Schema) {
    or(schema, &json!({"type": "string"}));
}

/// Flat amounts of 2023.
pub(super) fn resources(schema: &mut Schema) {
    let gpu = json!({"type": "string", "examples": ["T4:1"]});
    add(schema, "accelerators", old("Spelling of 2023; write `requests: {nvidia.com/gpu: …}`.", gpu));
    for key in ["cpu", "memory", "disk"] {
        let description = format!("Spelling of 2023; write `requests: {{{key}: …}}`.");
        add(schema, key, old(&description, json!({"type": ["string", "number"]})));
    }
}

/// `quantity` may be text.
pub(super) fn gpu(schema: &mut Schema) {
    if let Some(quantity) =
        properties(schema).and_then(|p| p.get_mut("quantity")).and_then(Value::as_object_mut)
    {
        quantity.insert("type".to_owned(), json!(["integer", "string"]));
        quantity.insert("minimum".to_owned(), json!(1));
        quantity.remove("format");
        quantity.remove("maximum");
    }
}

/// `image` is a map, or text for its `url`.
pub(super) fn image(schema: &mut Schema) {
    or(schema, &json!({"type": "string", "minLength": 1}));
}

/// A container path.
pub(super) fn path(schema: &mut Schema) {
    schema.insert("pattern".to_owned(), "^/".into());
}

/// Text form of a section's sources or targets.
fn text_form(section: &str) -> Value {
    let kinds: Vec<_> = KINDS.iter().filter(|kind| kind.sections.contains(&section)).collect();
    let schemes: Vec<_> = kinds.iter().map(|kind| kind.scheme()).collect();
    let examples: Vec<_> = kinds.iter().map(|kind| kind.form).collect();
    json!({"type": "string", "pattern": format!("^({})://", schemes.join("|")), "examples": examples})
}

/// The kinds of a section as properties of one map, from the variants of the type.
fn kinds(schema: &Schema) -> Map<String, Value> {
    let variants = schema.get("oneOf").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut all = Map::new();
    for variant in variants {
        let described = variant.get("description").cloned();
        let Some(properties) = variant.get("properties").and_then(Value::as_object) else { continue };
        for (key, property) in properties {
            let mut property = property.clone();
            if let (Some(object), Some(described)) = (property.as_object_mut(), &described) {
                object.insert("description".to_owned(), described.clone());
            }
            match key.as_str() {
                "git" | "hf" | "volume" => {
                    property = json!({"description": described, "anyOf": [property, {"type": "string"}]});
                }
                "artifact" => {
                    property = json!({"description": described, "anyOf": [property, {"type": "null"}]});
                }
                _ => {}
            }
            all.insert(key.clone(), property);
        }
    }
    all
}

fn section(schema: &mut Schema, name: &str) {
    let map = json!({
        "type": "object",
        "properties": kinds(schema),
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
    });
    let description = schema.get("description").cloned();
    let text = text_form(name);
    *schema = json_schema!({"description": description, "anyOf": [text, map]});
}

/// Text or a map with one kind.
pub(super) fn import(schema: &mut Schema) {
    section(schema, "import");
}

/// Text or a map with one kind.
pub(super) fn export(schema: &mut Schema) {
    section(schema, "export");
}

/// Text, or a map with one kind and `readonly`.
pub(super) fn mount(schema: &mut Schema) {
    let source = properties(schema).and_then(|p| p.remove("source")).and_then(|s| Schema::try_from(s).ok());
    let mut all = source.as_ref().map(kinds).unwrap_or_default();
    let readonly = properties(schema).and_then(|p| p.remove("readonly")).unwrap_or_default();
    let options =
        json!({"type": "object", "properties": {"readonly": readonly}, "additionalProperties": false});
    all.insert("readonly".to_owned(), readonly);
    all.insert("options".to_owned(), old("Another place for `readonly`.", options));
    let map = json!({"type": "object", "properties": all, "additionalProperties": false, "minProperties": 1});
    let description = schema.get("description").cloned();
    *schema = json_schema!({"description": description, "anyOf": [text_form("mount"), map]});
}

/// `readonly` inside the kind.
pub(super) fn inner_readonly(schema: &mut Schema) {
    add(schema, "readonly", old("Belongs beside the kind.", json!({"type": "boolean"})));
}

/// `artifact_name` is the same key as `name`.
pub(super) fn artifact(schema: &mut Schema) {
    schema.remove("required");
    add(schema, "artifact_name", json!({"type": "string", "description": "The same as `name`."}));
}

/// A model's number may be text.
pub(super) fn model(schema: &mut Schema) {
    let number = json!({
        "type": ["integer", "string"], "minimum": 1, "description": "Version; required on import, absent on export."
    });
    add(schema, "model_number", number);
}

/// `prefix` may be left out.
pub(super) fn bucket(schema: &mut Schema) {
    schema.insert("required".to_owned(), json!(["bucket"]));
}

/// An item is a map that has a command or a wait, or text for its command.
pub(super) fn item(schema: &mut Schema) {
    schema.insert("anyOf".to_owned(), json!([{"required": ["command"]}, {"required": ["wait"]}]));
    or(schema, &json!({"type": "string"}));
}

/// `idle_timeout` stands in `jupyter`; spellings of 2023 and a slip of the examples beside it.
pub(super) fn interactive(schema: &mut Schema) {
    let Some(properties) = properties(schema) else { return };
    let idle = properties.remove("idle_timeout").unwrap_or_default();
    let jupyter = json!({
        "description": "Limits of the notebook server.",
        "type": "object", "properties": {"idle_timeout": idle}, "additionalProperties": false
    });
    add(schema, "jupyter", jupyter);
    add(schema, "idle_timeout", old("Belongs in `jupyter`.", duration()));
    add(schema, "runtime", old("Spelling of 2023; write `max_runtime`.", duration()));
    add(
        schema,
        "ports",
        old("Spelling of 2023; write `ports` at the top of the file.", json!({"type": "array"})),
    );
}

/// The type of a port may be written in capitals.
pub(super) fn port_kind(schema: &mut Schema) {
    let description = schema.get("description").cloned();
    let kinds = ["http", "tcp", "udp", "HTTP", "TCP", "UDP"];
    *schema = json_schema!({"description": description, "enum": kinds});
}

/// A port is a map, or its number.
pub(super) fn port(schema: &mut Schema) {
    let number =
        json!({"description": "1–65535.", "type": ["integer", "string"], "minimum": 1, "maximum": 65535});
    add(schema, "port", number.clone());
    schema.insert("required".to_owned(), json!(["port"]));
    or(schema, &number);
}

/// A variable is text, or a map that says where its value comes from.
pub(super) fn env(schema: &mut Schema) {
    let description = schema.get("description").cloned();
    *schema = json_schema!({
        "description": description,
        "anyOf": [
            {"type": ["string", "number", "boolean", "null"]},
            {
                "type": "object",
                "properties": {
                    "value": {"description": "The value, as text.", "type": "string"},
                    "secret": {
                        "description": "Name of a stored secret; or true: with a value it is secret itself, without one the stored secret has the name of the variable.",
                        "type": ["string", "boolean"]
                    },
                    "source": {
                        "description": "Where the value comes from; `inject` means it is given at submit.",
                        "enum": ["text", "secret", "inject"]
                    }
                },
                "additionalProperties": false,
                "minProperties": 1
            }
        ]
    });
}
