//! The environment of a run: the file's variables, those given at submit, and the run's own. It never sees the value of a
//! stored secret.
use indexmap::IndexMap;

use super::report::{Code, Report, candidates, typed};
use super::{Catalogue, EnvFrom, EnvPlan, Needs, Stamp};
use crate::ids::ClusterName;
use crate::secret::Secret;
use crate::spec::{EnvValue, Spec};

/// Longest `KEY=VALUE` that Linux passes to a program, in bytes (`MAX_ARG_STRLEN` with its final NUL).
const LONGEST: usize = 131_071;

/// The variables that every run has; nobody else sets them.
pub const RESERVED: [&str; 3] = ["VESSL_RUN_ID", "VESSL_RUN_NAME", "VESSL_CLUSTER"];

/// What the environment is made from beside the file.
pub(super) struct Given<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) stamp: &'a Stamp<'a>,
    pub(super) cluster: &'a ClusterName,
}

/// Builds the environment in order: the run's own variables, the file's, then what only the submit brought.
pub(super) fn build(spec: &Spec, given: &Given<'_>, needs: &mut Needs, report: &mut Report) -> Vec<EnvPlan> {
    let values = [given.stamp.run.0.to_string(), spec.name.clone(), given.cluster.to_string()];
    let own = RESERVED.into_iter().zip(values);
    let inject = injected(given.stamp, report);
    let mut env: IndexMap<String, EnvFrom> =
        own.map(|(key, value)| (key.to_owned(), EnvFrom::Text(value))).collect();
    let mut builder = Builder { given, needs, report };
    for (key, value) in &spec.env {
        if RESERVED.contains(&key.as_str()) {
            builder.reserved(key);
        } else if let Some(from) = builder.value(key, value, inject.get(key.as_str()).copied()) {
            env.insert(key.clone(), from);
        }
    }
    for (key, value) in &inject {
        if RESERVED.contains(key) {
            builder.reserved(key);
        } else if !spec.env.contains_key(*key) {
            env.insert((*key).to_owned(), EnvFrom::Text(value.expose().to_owned()));
        }
    }
    lengths(&env, needs, report);
    env.into_iter().map(|(key, value)| EnvPlan { key, value }).collect()
}

/// What the submit brought, the last value of a key; keys that no program can be given are reported.
fn injected<'a>(stamp: &Stamp<'a>, report: &mut Report) -> IndexMap<&'a str, &'a Secret> {
    let mut pairs = IndexMap::new();
    for (key, value) in stamp.inject {
        if key.is_empty() || key.contains(['=', '\0']) {
            report
                .error(
                    Code::BadInject,
                    "env",
                    format!("`-e` has the name `{}`, which no variable can have", key.escape_debug()),
                )
                .hint("write `-e KEY=VALUE`");
        } else if value.expose().contains('\0') {
            report.error(
                Code::BadInject,
                format!("env.{key}"),
                format!("the value of `-e {key}` contains NUL"),
            );
        } else {
            pairs.insert(key.as_str(), value);
        }
    }
    pairs
}

struct Builder<'a, 'b> {
    given: &'a Given<'a>,
    needs: &'b mut Needs,
    report: &'b mut Report,
}

impl Builder<'_, '_> {
    /// One variable of the file. What the file marks as secret stays secret when the submit overrides it.
    fn value(&mut self, key: &str, value: &EnvValue, inject: Option<&Secret>) -> Option<EnvFrom> {
        match (value, inject) {
            (EnvValue::Text(_) | EnvValue::Inject, Some(text)) => {
                Some(EnvFrom::Text(text.expose().to_owned()))
            }
            (EnvValue::Text(text), None) => Some(EnvFrom::Text(text.clone())),
            (EnvValue::Secret(_) | EnvValue::Masked(_) | EnvValue::InjectSecret, Some(text)) => {
                Some(self.literal(key, text))
            }
            (EnvValue::Secret(name), None) => self.stored(key, name),
            (EnvValue::Masked(text), None) => Some(self.masked(key, text)),
            (EnvValue::Inject | EnvValue::InjectSecret, None) => {
                self.report
                    .error(
                        Code::MissingInject,
                        format!("env.{key}"),
                        format!("`{key}` has no value; it is to be given at submit"),
                    )
                    .hint(format!("add `-e {key}=VALUE`"));
                None
            }
        }
    }

    fn stored(&mut self, key: &str, name: &str) -> Option<EnvFrom> {
        if self.given.catalogue.secrets.iter().any(|known| known == name) {
            self.needs.stored.insert(key.to_owned(), name.to_owned());
            return Some(EnvFrom::Secret(key.to_owned()));
        }
        let added = self.report.error(
            Code::UnknownSecret,
            format!("env.{key}"),
            format!("there is no secret `{name}`"),
        );
        let names: Vec<&str> = self.given.catalogue.secrets.iter().map(String::as_str).collect();
        let store = format!("store it: `vessl secret create {}`", typed(name));
        added.hint(match names.as_slice() {
            [] => store,
            names => format!("{}; or {store}", candidates(name, "secret", names)),
        });
        None
    }

    /// A value marked as secret: the name of a stored secret, else the secret itself.
    fn masked(&mut self, key: &str, text: &Secret) -> EnvFrom {
        let at = format!("env.{key}");
        if self.given.catalogue.secrets.iter().any(|known| known == text.expose()) {
            let name = text.expose().to_owned();
            self.report.warn(
                Code::SecretUse,
                at,
                format!("`{key}` gets the value of the stored secret `{name}`"),
            );
            self.needs.stored.insert(key.to_owned(), name);
            return EnvFrom::Secret(key.to_owned());
        }
        let message =
            format!("no stored secret is called like the value of `{key}`: the value itself is the secret");
        self.report.warn(Code::SecretUse, at, message).hint(format!(
            "a value in the file is as public as the file; store it with `vessl secret create NAME` and write `{key}: {{secret: NAME}}`"
        ));
        self.literal(key, text)
    }

    /// An empty secret hides nothing, and masking it would mask everything.
    fn literal(&mut self, key: &str, text: &Secret) -> EnvFrom {
        if text.is_empty() {
            return EnvFrom::Text(String::new());
        }
        self.needs.literal.insert(key.to_owned(), text.clone());
        EnvFrom::Secret(key.to_owned())
    }

    fn reserved(&mut self, key: &str) {
        let message = format!("`{key}` is set by vessl; the given value is not used");
        self.report.warn(Code::NoEffect, format!("env.{key}"), message);
    }
}

fn lengths(env: &IndexMap<String, EnvFrom>, needs: &Needs, report: &mut Report) {
    for (key, value) in env {
        let value = match value {
            EnvFrom::Text(text) => text.len(),
            EnvFrom::Secret(name) => needs.literal.get(name).map_or(0, Secret::len),
        };
        let length = key.len() + 1 + value;
        if length > LONGEST {
            report
                .error(
                    Code::EnvTooLong,
                    format!("env.{key}"),
                    format!("`{key}` and its value have {length} bytes; a program can be given {LONGEST}"),
                )
                .hint("put the data into a file and import it");
        }
    }
}
