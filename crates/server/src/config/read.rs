//! Reading: file and environment become one table, whose keys are checked before its values.
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Config, DEFAULT_TOML};

/// Prefix of the environment variables.
const PREFIX: &str = "VESSL_SERVER_";
const PRESET_KEYS: [&str; 5] = ["name", "cpu", "memory", "gpus", "gpu_type"];
/// Largest configuration file in bytes.
const LARGEST: u64 = 1 << 20;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error("the configuration {place} is wrong: {why}")]
    Wrong {
        /// File or variable.
        place: String,
        /// Why, with line and column where known.
        why: String,
    },
    /// A key that does not exist.
    #[error("{place} has the unknown key `{key}`{}", nearest(key, known))]
    Unknown {
        /// File or environment.
        place: String,
        /// As written.
        key: String,
        /// What exists.
        known: Vec<String>,
    },
}

/// Reads the file, if there is one, and puts `environment` above it.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let defaults: Table = DEFAULT_TOML.parse().map_err(|error| wrong("`config.default.toml`", &error))?;
    let mut table = match file {
        Some(path) => read(path, &defaults)?,
        None => Table::new(),
    };
    let place = file.map_or_else(|| "environment".to_owned(), |path| format!("`{}`", path.display()));
    for (name, text) in environment {
        if let Some(key) = name.strip_prefix(PREFIX) {
            let (key, value) = variable(&name, &key.to_ascii_lowercase(), &text, &defaults)?;
            table.insert(key, value);
        }
    }
    Value::Table(table).try_into().map_err(|error| wrong(&place, &error))
}

fn read(path: &Path, defaults: &Table) -> Result<Table, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > LARGEST {
        return Err(failed(std::io::Error::other("it is larger than 1 MiB")));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let place = format!("`{}`", path.display());
    let table: Table = text.parse().map_err(|error| wrong(&place, &error))?;
    let known: Vec<&str> = defaults.keys().map(String::as_str).collect();
    check_keys(&place, &table, &known)?;
    for preset in table.get("presets").and_then(Value::as_array).into_iter().flatten() {
        if let Some(preset) = preset.as_table() {
            check_keys(&format!("a preset in {place}"), preset, &PRESET_KEYS)?;
        }
    }
    Ok(table)
}

fn check_keys(place: &str, table: &Table, known: &[&str]) -> Result<(), ConfigError> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(ConfigError::Unknown {
            place: place.to_owned(),
            key: key.clone(),
            known: known.iter().map(|&key| key.to_owned()).collect(),
        }),
    }
}

/// The value of one variable, in the type that its default has.
fn variable(name: &str, key: &str, text: &str, defaults: &Table) -> Result<(String, Value), ConfigError> {
    let value = match defaults.get(key) {
        Some(Value::Boolean(_)) => text.parse().map(Value::Boolean).map_err(|error| wrong(name, &error))?,
        Some(Value::Integer(_)) => text.parse().map(Value::Integer).map_err(|error| wrong(name, &error))?,
        Some(Value::Array(_)) if key == "presets" => {
            return Err(wrong(name, &"presets can only be set in the file"));
        }
        Some(Value::Array(_)) => Value::Array(
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Value::from).collect(),
        ),
        Some(_) => Value::from(text),
        None => {
            let known = defaults.keys().map(|key| format!("{PREFIX}{}", key.to_ascii_uppercase())).collect();
            return Err(ConfigError::Unknown {
                place: "the environment".to_owned(),
                key: name.to_owned(),
                known,
            });
        }
    };
    Ok((key.to_owned(), value))
}

fn nearest(key: &str, known: &[String]) -> String {
    let close = known.iter().map(|one| (strsim::osa_distance(key, one), one)).min();
    match close {
        Some((far, one)) if far <= 1 + key.len() / 3 => format!(": did you mean `{one}`?"),
        _ => format!("; known are {}", known.join(", ")),
    }
}

fn wrong(place: &str, why: &dyn std::fmt::Display) -> ConfigError {
    ConfigError::Wrong { place: place.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_defaults_are_the_defaults() {
        let read: Config = toml::from_str(DEFAULT_TOML).unwrap();
        assert_eq!(read, Config::default());
        assert_eq!(Config::default().documented(), DEFAULT_TOML);
        let documented: Table = DEFAULT_TOML.parse().unwrap();
        assert_eq!(documented, Table::try_from(Config::default()).unwrap(), "every key is documented");
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let mut config = Config { grace: "5s".to_owned(), ..Config::default() };
        config.hostpath_roots = vec!["/data".to_owned()];
        config.presets.push(super::super::PresetConfig {
            name: "one".to_owned(),
            cpu: "1".to_owned(),
            memory: "1Gi".to_owned(),
            ..Default::default()
        });
        assert_eq!(toml::from_str::<Config>(&config.documented()).unwrap(), config);
    }

    /// The error of a file with `text` and an environment with `variable`, or the one changed value.
    fn check(text: &str, variable: (&str, &str), expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        let said = match load(Some(&path), [(variable.0.to_owned(), variable.1.to_owned())]) {
            Ok(config) => format!("{} {:?} {}", config.listen, config.hostpath_roots, config.threads),
            Err(error) => error.to_string().replace(&path.display().to_string(), "FILE"),
        };
        assert!(said.contains(expected), "{text:?} {variable:?}\n said: {said}\n not: {expected}");
    }

    #[test]
    fn file_and_environment() {
        let none = ("HOME", "/root");
        check("", none, "127.0.0.1:0 [] 2");
        check("listen = \"unix:/x\"", none, "unix:/x [] 2");
        check("listen = \"unix:/x\"", ("VESSL_SERVER_LISTEN", "unix:/y"), "unix:/y [] 2");
        check("", ("VESSL_SERVER_HOSTPATH_ROOTS", "/a, /b"), "[\"/a\", \"/b\"]");
        check("", ("VESSL_SERVER_THREADS", "4"), " 4");
        check("", ("VESSL_SERVER_THREADS", "many"), "VESSL_SERVER_THREADS");
        check("", ("VESSL_SERVER_LISTN", "x"), "did you mean `VESSL_SERVER_LISTEN`?");
        check("listne = \"x\"", none, "`FILE` has the unknown key `listne`: did you mean `listen`?");
        check("zzzzzz = 1", none, "unknown key `zzzzzz`; known are agent, ");
        check("threads = \"two\"", none, "`FILE` is wrong");
        check("threads = ", none, "line 1");
        check("[[presets]]\nname=\"a\"\ncpus=\"1\"", none, "did you mean `cpu`?");
    }
}
