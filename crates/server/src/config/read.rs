//! Reading: the file by serde, the environment above it, then what no type can refuse.
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};
use vessl_core::spec::labels::{self, NAME_FORM};

use super::{Config, PresetConfig, place};

/// Prefix of the environment variables.
const PREFIX: &str = "VESSL_SERVER_";
/// How many threads may serve requests.
const THREADS: RangeInclusive<usize> = 1..=1024;
/// How many bodies may be on their way.
const BODIES: RangeInclusive<usize> = 1..=4096;
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
}

/// Reads the file, if there is one, and puts `environment` above it.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let config: Config = match file {
        Some(path) => File::read(path)?.parse()?,
        None => Config::default(),
    };
    let mut table = Table::try_from(config).map_err(|error| wrong("file", &error))?;
    let environment: Vec<_> = environment.into_iter().collect();
    for (name, text) in &environment {
        if let Some(key) = name.strip_prefix(PREFIX) {
            variable(name, &key.to_ascii_lowercase(), text, &mut table)?;
        }
    }
    let config = Value::Table(table).try_into().map_err(|error| wrong("environment", &error))?;
    let Some((key, why)) = unusable(&config) else { return Ok(config) };
    let place = origin(file, environment, &key).unwrap_or_else(|| format!("`{key}`"));
    Err(wrong(&place, &format!("`{key}`: {why}")))
}

/// A setting of the right type that no server can use, and why.
fn unusable(config: &Config) -> Option<(String, String)> {
    let mut names = vec![
        ("organization".to_owned(), &config.organization),
        ("project".to_owned(), &config.project),
        ("cluster".to_owned(), &config.cluster),
    ];
    // Without a name of its own a node is called like the machine.
    let node = |key: String, name| Some((key, name)).filter(|(_, name): &(_, &String)| !name.is_empty());
    names.extend(node("node".to_owned(), &config.node));
    names.extend(preset_names("", &config.presets));
    for (index, cluster) in config.clusters.iter().enumerate() {
        let of = format!("clusters[{index}].");
        names.push((format!("{of}name"), &cluster.name));
        names.extend(node(format!("{of}node"), &cluster.node));
        names.extend(preset_names(&of, &cluster.presets));
    }
    if let Some((key, _)) = names.into_iter().find(|(_, name)| !labels::is_name(name)) {
        return Some((key, format!("it must be {NAME_FORM}")));
    }
    if !is_domain(&config.ports_domain) {
        return Some(("ports_domain".to_owned(), "it must be a domain in small letters".to_owned()));
    }
    if config.ports_certificate.is_empty() != config.ports_key.is_empty() {
        let why = "`ports_certificate` and `ports_key` are set together or not at all";
        return Some(("ports_key".to_owned(), why.to_owned()));
    }
    if !config.tcp_ports.is_empty() && config.tcp_range().is_none() {
        return Some((
            "tcp_ports".to_owned(),
            "it must be empty or `FIRST-LAST`, like `20000-20999`".to_owned(),
        ));
    }
    let counts = [("threads", config.threads, THREADS), ("open_bodies", config.open_bodies, BODIES)];
    let (key, _, range) = counts.into_iter().find(|(_, count, range)| !range.contains(count))?;
    Some((key.to_owned(), format!("it must be from {} to {}", range.start(), range.end())))
}

/// Whether this is the name of a domain, as browsers write it.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(inside) && !label.starts_with('-')
    };
    text.len() <= 200 && text.split('.').all(is_label)
}

/// Names of presets with their keys, below a key that ends with a point.
fn preset_names<'c>(of: &str, presets: &'c [PresetConfig]) -> Vec<(String, &'c String)> {
    let key =
        |(index, preset): (usize, &'c PresetConfig)| (format!("{of}presets[{index}].name"), &preset.name);
    presets.iter().enumerate().map(key).collect()
}

/// Cores, as text or as a number.
pub(super) fn cores<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        other => Err(unlike(&other, "text or a number")),
    }
}

/// Memory, which needs a unit: a run file reads a bare number as gigabytes, others would mean bytes.
pub(super) fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Integer(_) | Value::Float(_) => {
            Err(serde::de::Error::custom("a number without a unit; write it like \"1Gi\""))
        }
        other => Err(unlike(&other, "text")),
    }
}

fn unlike<E: serde::de::Error>(found: &Value, expected: &str) -> E {
    E::custom(format_args!("invalid type: {}, expected {expected}", found.type_str()))
}

/// The same for a client, which needs to know `data_dir` alone: what else is wrong is for the start of a server to say.
pub fn load_data_dir(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Known {
        data_dir: PathBuf,
    }
    let known = match file {
        Some(path) => File::read(path)?.parse()?,
        None => Known::default(),
    };
    let above = environment.into_iter().find(|(name, _)| name.strip_prefix(PREFIX) == Some("DATA_DIR"));
    let data_dir = above.map_or(known.data_dir, |(_, dir)| dir.into());
    Ok(Config { data_dir, ..Config::default() })
}

/// Where a setting comes from: the variable of `environment` that sets it, else its line and column in the file. `None`
/// for a default.
pub fn origin(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    key: &str,
) -> Option<String> {
    let root = key.split(['.', '[']).next()?;
    let variable = format!("{PREFIX}{}", root.to_ascii_uppercase());
    if environment.into_iter().any(|(name, _)| name == variable) {
        return Some(format!("`{variable}`"));
    }
    let file = File::read(file?).ok()?;
    let entries = place::entries(&file.text);
    entries.iter().find(|entry| entry.path == key).map(|entry| file.place(entry.key.start))
}

/// A settings file.
struct File {
    path: PathBuf,
    text: String,
}

impl File {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(failed)?.len() > LARGEST {
            return Err(failed(std::io::Error::other("it is larger than 1 MiB")));
        }
        Ok(Self { path: path.to_owned(), text: std::fs::read_to_string(path).map_err(failed)? })
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|error| self.wrong(&error))
    }

    fn place(&self, offset: usize) -> String {
        format!("`{}:{}`", self.path.display(), place::of_offset(&self.text, offset))
    }

    /// The error with its place, and its key where it has one.
    fn wrong(&self, error: &toml::de::Error) -> ConfigError {
        let why = with_nearest(error.message().lines().collect::<Vec<_>>().join(", "));
        let Some(span) = error.span() else {
            return wrong(&format!("`{}`", self.path.display()), &why);
        };
        let entries = place::entries(&self.text);
        let key = place::around(&entries, span.start).map(|entry| format!("`{}`: ", entry.path));
        wrong(&self.place(span.start), &format!("{}{why}", key.unwrap_or_default()))
    }
}

/// Puts the value of one variable into the table, in the type that is there.
fn variable(name: &str, key: &str, text: &str, table: &mut Table) -> Result<(), ConfigError> {
    let known: Vec<_> = table.keys().map(|key| format!("{PREFIX}{}", key.to_ascii_uppercase())).collect();
    let Some(value) = table.get_mut(key) else {
        let known: Vec<_> = known.iter().map(String::as_str).collect();
        let nearest = nearest(name, &known).map(|one| format!(": did you mean `{one}`?"));
        return Err(wrong(
            "environment",
            &format!("unknown variable `{name}`{}", nearest.unwrap_or_default()),
        ));
    };
    *value = match value {
        Value::Boolean(_) => {
            text.parse().map(Value::Boolean).map_err(|error| wrong(&format!("`{name}`"), &error))?
        }
        Value::Integer(_) => {
            text.parse().map(Value::Integer).map_err(|error| wrong(&format!("`{name}`"), &error))?
        }
        Value::Array(_) if ["presets", "clusters"].contains(&key) => {
            return Err(wrong(&format!("`{name}`"), &format!("{key} can only be set in the file")));
        }
        Value::Array(_) => Value::Array(
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Value::from).collect(),
        ),
        _ => Value::from(text),
    };
    Ok(())
}

/// What serde says, which names every key that exists after an unknown one, with the nearest instead if one is near.
fn with_nearest(why: String) -> String {
    let mut quoted = why.split('`').skip(1).step_by(2);
    let (Some(key), known) = (quoted.next(), quoted.collect::<Vec<_>>()) else { return why };
    match nearest(key, &known) {
        Some(one) if why.starts_with("unknown field") => {
            format!("unknown key `{key}`: did you mean `{one}`?")
        }
        _ => why,
    }
}

fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let close = known.iter().map(|one| (strsim::osa_distance(key, one), *one)).min();
    // One that was cut short is far away by its letters.
    let alike = known.iter().map(|one| (strsim::jaro_winkler(key, one), *one));
    let alike = alike.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score >= 0.8);
    let close = close.filter(|(far, _)| *far <= 1 + key.len() / 3).map(|(_, one)| one);
    close.or(alike.map(|(_, one)| one))
}

fn wrong(place: &str, why: &dyn std::fmt::Display) -> ConfigError {
    ConfigError::Wrong { place: place.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DEFAULT_TOML;

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
        config.presets.push(PresetConfig {
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
        check("", none, " [] 2");
        check("listen = \"unix:/x\"", none, "unix:/x [] 2");
        check("listen = \"unix:/x\"", ("VESSL_SERVER_LISTEN", "unix:/y"), "unix:/y [] 2");
        check("", ("VESSL_SERVER_HOSTPATH_ROOTS", "/a, /b"), "[\"/a\", \"/b\"]");
        check("", ("VESSL_SERVER_THREADS", "4"), " 4");
        check("", ("VESSL_SERVER_THREADS", "many"), "VESSL_SERVER_THREADS");
        check("", ("VESSL_SERVER_LISTN", "x"), "did you mean `VESSL_SERVER_LISTEN`?");
        check(
            "# é\nlistne = \"x\"",
            none,
            "`FILE:2:1` is wrong: unknown key `listne`: did you mean `listen`?",
        );
        check("zzzzzz = 1", none, "`FILE:1:1` is wrong: unknown field `zzzzzz`, expected one of `listen`, ");
        check("threads = \"two\"", none, "`FILE:1:11` is wrong: `threads`: invalid type: string \"two\"");
        check("threads = ", none, "`FILE:1:11` is wrong: ");
        check(
            "[[presets]]\nname=\"a\"\ncpus=\"1\"",
            none,
            "`FILE:3:1` is wrong: unknown key `cpus`: did you mean `cpu`?",
        );
        check(
            "[[presets]]\nname=\"a\"\ncpu=[1]",
            none,
            "`FILE:3:5` is wrong: `presets[0].cpu`: invalid type",
        );
        check("[[presets]]\nname=\"a\"\ncpu=0.5\nmemory=\"1G\"\n", none, " [] 2");
        check("reserve_cpu = 1", none, " [] 2");
        check(
            "reserve_memory = 1073741824",
            none,
            "`FILE:1:18` is wrong: `reserve_memory`: a number without a unit",
        );
        check(
            "\nhostpaths = []",
            none,
            "`FILE:2:1` is wrong: unknown key `hostpaths`: did you mean `hostpath_roots`?",
        );
        check("\nthreads = 0", none, "`FILE:2:1` is wrong: `threads`: it must be from 1 to 1024");
        check("threads = 1025", none, "`FILE:1:1` is wrong: `threads`: it must be from 1 to 1024");
        check("threads = 1024", none, " 1024");
        check("", ("VESSL_SERVER_THREADS", "0"), "`VESSL_SERVER_THREADS` is wrong: `threads`: ");
        check(
            "organization = \"a/b\"",
            none,
            "`FILE:1:1` is wrong: `organization`: it must be 1-100 letters",
        );
        let preset = |name: &str| format!("[[presets]]\ncpu=\"1\"\nmemory=\"1G\"\nname=\"{name}\"");
        check(&preset("a"), none, " [] 2");
        for name in ["a b/../x", "p\\u001b[31m\\n", ""] {
            let expected = "`FILE:4:1` is wrong: `presets[0].name`: it must be 1-100 letters";
            check(&preset(name), none, expected);
        }
        check("node = \"n\\u001b[31m/../x\"", none, "`FILE:1:1` is wrong: `node`: it must be 1-100 letters");
        check("cluster = \"\"", none, "`FILE:1:1` is wrong: `cluster`: it must be 1-100 letters");
        check("node = \"\"", none, " [] 2");
        check("project = \"\"", none, "`FILE:1:1` is wrong: `project`: it must be 1-100 letters");
        check(
            "[[presets]]\nname=\"a\"\ncpu=\"1\"",
            none,
            "`FILE:1:1` is wrong: `presets[0]`: missing field `memory`",
        );
        check(
            "[data]\nx = 1",
            none,
            "`FILE:1:2` is wrong: `data`: unknown key `data`: did you mean `data_dir`?",
        );
    }

    #[test]
    fn clusters_are_checked_like_the_rest() {
        let none = ("HOME", "/root");
        let cluster = "[[clusters]]\nname=\"c\"\ncpu=1\nmemory=\"1G\"\n";
        check(cluster, none, " [] 2");
        check(
            &format!("{cluster}nod=\"\""),
            none,
            "`FILE:5:1` is wrong: unknown key `nod`: did you mean `node`?",
        );
        check(&format!("{cluster}engine=\"slurm\""), none, "`FILE:5:8` is wrong: `clusters[0].engine`: ");
        check("[[clusters]]\ncpu=1", none, "`clusters[0].name` is wrong: `clusters[0].name`: it must be");
        check(
            &format!("{cluster}[[clusters.presets]]\nname=\"a b\"\ncpu=1\nmemory=\"1G\""),
            none,
            "`FILE:6:1` is wrong: `clusters[0].presets[0].name`: it must be 1-100 letters",
        );
        check("", ("VESSL_SERVER_CLUSTERS", "a"), "clusters can only be set in the file");
    }

    #[test]
    fn a_client_needs_to_know_the_data_directory_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let check = |text: &str, variable: &str, expected: Result<&str, &str>| {
            std::fs::write(&path, text).unwrap();
            match (load_data_dir(Some(&path), [(variable.to_owned(), "/v".to_owned())]), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got.data_dir, Path::new(expected), "{text}"),
                (Err(got), Err(expected)) => {
                    let said = got.to_string();
                    assert!(said.contains(&format!("{}{expected}", path.display())), "{said}");
                }
                (got, _) => panic!("{text}: {got:?}"),
            }
        };
        check("hostpath_root = 1\ndata_dir = \"/d\"\nthreads = \"x\"", "HOME", Ok("/d"));
        check("data_dir = \"/d\"", "VESSL_SERVER_LISTNE", Ok("/d"));
        check("data_dir = \"/d\"", "VESSL_SERVER_DATA_DIR", Ok("/v"));
        check("nothing here", "HOME", Err(":1:9` is wrong: "));
        check("data_dir = 5", "HOME", Err(":1:12` is wrong: `data_dir`: invalid type"));
    }

    #[test]
    fn a_setting_is_found_where_it_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "grace = \"1s\"\n[[presets]]\nname = \"a\"\n[[presets]]\n  cpu = \"1\"\n")
            .unwrap();
        let check = |key: &str, expected: Option<&str>| {
            let found = origin(Some(&path), [("VESSL_SERVER_LISTEN".to_owned(), String::new())], key);
            let found = found.map(|found| found.replace(&path.display().to_string(), "FILE"));
            assert_eq!(found.as_deref(), expected, "{key}");
        };
        check("grace", Some("`FILE:1:1`"));
        check("presets[1].cpu", Some("`FILE:5:3`"));
        check("listen", Some("`VESSL_SERVER_LISTEN`"));
        check("node", None);
    }
}
