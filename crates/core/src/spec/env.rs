//! `env`: variables as text, stored secrets, literal secrets and values given at submit.
use indexmap::IndexMap;

use super::fields::{At, Fields, Reader, boolean};
use super::keys;
use super::problem::{Code, Report};
use super::syntax;
use super::tree::Kind;
use super::types::EnvValue;

const FORM: &str = "`NAME: text`, `NAME: {secret: stored-name}` or `NAME: {value: text, secret: true}`";

/// Reads the variables in file order.
pub(super) fn read(reader: &mut Reader<'_, '_>, at: &At<'_>) -> IndexMap<String, EnvValue> {
    let mut env = IndexMap::new();
    let Some(entries) = reader.map(at, "a map such as `NAME: value`, not a list") else { return env };
    for (key, value) in at.entries(entries) {
        let name = key.node.text().unwrap_or_default();
        if name.is_empty() || name.contains(['=', '\0']) {
            let report =
                Report::new(Code::BadEnvName, format!("`{}` cannot name a variable", syntax::clip(name)));
            reader.error(&key, report.hint("use letters, digits and `_`"));
            continue;
        }
        if value.node.is_null() {
            without_value(reader, &key, name);
        }
        if let Some(value) = read_value(reader, value, name) {
            env.insert(name.to_owned(), value);
        }
    }
    env
}

fn read_value(reader: &mut Reader<'_, '_>, at: At<'_>, name: &str) -> Option<EnvValue> {
    match at.node.kind {
        Kind::Scalar { .. } => read_text(reader, &at).map(EnvValue::Text),
        Kind::List(_) => {
            reader.wrong_type(&at, "text or a map", FORM);
            None
        }
        Kind::Map(_) => {
            if reader.is_placeholder(&at) {
                return None;
            }
            let fields = reader.fields(at, &keys::ENV, FORM)?;
            read_map(reader, &fields, name)
        }
    }
}

/// The scalar's source text; null is the empty text. What looks like a placeholder is an error only where it cannot
/// be meant: unquoted and in braces.
fn read_text(reader: &mut Reader<'_, '_>, at: &At<'_>) -> Option<String> {
    if at.node.is_null() {
        return Some(String::new());
    }
    let text = reader.prose(at, FORM)?;
    if syntax::template_in(&text).is_none()
        && let Some(found) = syntax::whole_placeholder(&text)
    {
        reader.warn(at, syntax::quoted_placeholder(found));
    }
    Some(text)
}

/// A variable without a value arrives as set and empty, which its author may not have meant.
fn without_value(reader: &mut Reader<'_, '_>, at: &At<'_>, name: &str) {
    let message = format!("`{}` has no value: it is set, and empty", syntax::clip(name));
    let hint = "write `\"\"` if that is meant; remove the variable, or give it at submit with `{source: inject}`, if not";
    reader.warn(at, Report::new(Code::EmptyVariable, message).hint(hint));
}

/// What `secret` says.
enum Secret {
    No,
    Yes,
    Named(String),
}

fn read_secret(reader: &mut Reader<'_, '_>, fields: &Fields<'_>) -> Option<Secret> {
    let Some(at) = fields.get("secret") else { return Some(Secret::No) };
    let text = reader.word(&at, "the name of a stored secret, or `true`")?;
    Some(match boolean(&text).filter(|_| at.node.is_plain()) {
        Some(true) => Secret::Yes,
        Some(false) => Secret::No,
        None => Secret::Named(text),
    })
}

fn read_map(reader: &mut Reader<'_, '_>, fields: &Fields<'_>, name: &str) -> Option<EnvValue> {
    let secret = read_secret(reader, fields)?;
    let value = match (fields.get("value"), fields.key("value")) {
        (Some(at), _) => Some(read_text(reader, &at)?),
        (None, Some(key)) if matches!(secret, Secret::No) => {
            without_value(reader, &key, name);
            Some(String::new())
        }
        _ => None,
    };
    let source =
        reader.optional_word(fields, "source", "`source: text`, `source: secret` or `source: inject`");
    let outcome = match source.as_deref() {
        Some("inject") => injected(value, &secret),
        Some("text") if matches!(secret, Secret::Named(_)) => {
            Err(conflict("`source: text` and a stored secret"))
        }
        Some("secret") if value.is_none() => match secret {
            Secret::Named(secret) => Ok(EnvValue::Secret(secret)),
            Secret::Yes | Secret::No => Ok(EnvValue::Secret(name.to_owned())),
        },
        Some("secret") => Err(conflict("`source: secret` and `value`")),
        None | Some("text") => valued(value, secret, name),
        Some(other) => {
            let message = format!("a variable cannot come from `{}`", syntax::clip(other));
            Err(Report::new(Code::BadValue, message).hint("write `text`, `secret` or `inject`"))
        }
    };
    reader.take(&fields.at, outcome)
}

fn conflict(what: &str) -> Report {
    Report::new(Code::Conflict, format!("{what} contradict each other")).hint("keep one of them")
}

fn injected(value: Option<String>, secret: &Secret) -> Result<EnvValue, Report> {
    match (value, secret) {
        (Some(_), _) => Err(conflict("`source: inject` and `value`")),
        (None, Secret::Named(_)) => Err(conflict("`source: inject` and a stored secret")),
        (None, Secret::Yes) => Ok(EnvValue::InjectSecret),
        (None, Secret::No) => Ok(EnvValue::Inject),
    }
}

fn valued(value: Option<String>, secret: Secret, name: &str) -> Result<EnvValue, Report> {
    match (value, secret) {
        (Some(_), Secret::Named(_)) => Err(conflict("`value` and the name of a stored secret")),
        (Some(value), Secret::Yes) => Ok(EnvValue::Masked(value.into())),
        (Some(value), Secret::No) => Ok(EnvValue::Text(value)),
        (None, Secret::Named(secret)) => Ok(EnvValue::Secret(secret)),
        (None, Secret::Yes) => Ok(EnvValue::Secret(name.to_owned())),
        (None, Secret::No) => {
            Err(Report::new(Code::MissingKey, format!("`{}` has no value", syntax::clip(name)))
                .hint(format!("write {FORM}")))
        }
    }
}
