//! `vessl run create --sweep`: one run for each combination of the values that were given. It submits nothing.
use std::collections::BTreeSet;

use vessl_core::spec::{EnvValue, Spec};
use vessl_core::wire::{self, EnvPair, RunCreate};

use crate::error::{Error, Result};

/// Most runs of one sweep.
const MOST: usize = 1000;
/// Longest name of a run, in characters.
const LONGEST_NAME: usize = 253;

/// The submits of a sweep.
pub(super) struct Sweep {
    /// The tag that all of its runs have, which is also its name.
    pub(super) tag: String,
    /// One for each run, without an idempotency key.
    pub(super) asks: Vec<RunCreate>,
}

impl Sweep {
    /// The sweep that `ask` with several values for its variables means.
    pub(super) fn of(ask: &RunCreate, spec: &Spec, parallel: Option<u32>) -> Result<Self> {
        let wrong = |message| Error::Usage { message, hint: "see `vessl run create --help`".to_owned() };
        let points = points(&ask.env, spec).map_err(wrong)?;
        let tag = tag()?;
        let name = ask.overrides.name.as_ref().unwrap_or(&spec.name).clone();
        let one = |point: Point| {
            let mut one = ask.clone();
            one.overrides.name = Some(point.name(&name));
            one.overrides.tags.push(tag.clone());
            one.sweep = parallel.map(|parallel| wire::Sweep { name: tag.clone(), parallel });
            RunCreate { env: point.env, idempotency_key: None, ..one }
        };
        let asks = points.into_iter().map(one).collect();
        Ok(Self { tag, asks })
    }
}

/// A tag that no other sweep has.
fn tag() -> Result<String> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)
        .map_err(|error| std::io::Error::other(error.to_string()))
        .map_err(Error::os("read random bytes"))?;
    Ok(format!("sweep-{:08x}", u32::from_ne_bytes(bytes)))
}

/// One run of a sweep.
#[derive(Debug, PartialEq, Eq)]
struct Point {
    /// Its variables, also those that are the same for all.
    env: Vec<EnvPair>,
    /// What is different from the others, like `LR=1e-3-BS=32`.
    difference: String,
}

/// A variable with the values that it takes.
struct Axis {
    key: String,
    values: Vec<String>,
}

/// Every combination, the last variable changing first.
fn points(env: &[EnvPair], spec: &Spec) -> std::result::Result<Vec<Point>, String> {
    let axes = axes(env);
    let swept: Vec<&Axis> = axes.iter().filter(|axis| axis.values.len() > 1).collect();
    if swept.is_empty() {
        return Err("nothing changes in this sweep: give a variable several values, like `-e LR=1e-3,1e-2`"
            .to_owned());
    }
    if let Some(axis) = swept.iter().find(|axis| is_secret(spec, &axis.key)) {
        let key = &axis.key;
        return Err(format!(
            "`{key}` is a secret of the file: a sweep would show its values in the names of its runs"
        ));
    }
    let many = axes.iter().try_fold(1_usize, |all, axis| all.checked_mul(axis.values.len()));
    if many.is_none_or(|many| many > MOST) {
        return Err(format!("these are more than {MOST} runs"));
    }
    let mut points = vec![Point { env: Vec::new(), difference: String::new() }];
    for axis in &axes {
        points =
            points.iter().flat_map(|point| axis.values.iter().map(|value| point.with(axis, value))).collect();
    }
    Ok(points)
}

/// The variables in order; one that is given again has more values.
fn axes(env: &[EnvPair]) -> Vec<Axis> {
    let mut axes: Vec<Axis> = Vec::new();
    for pair in env {
        let values = pair.value.expose().split(',').map(str::to_owned);
        match axes.iter_mut().find(|axis| axis.key == pair.key) {
            Some(axis) => axis.values.extend(values),
            None => axes.push(Axis { key: pair.key.clone(), values: values.collect() }),
        }
    }
    for axis in &mut axes {
        let mut seen = BTreeSet::new();
        axis.values.retain(|value| seen.insert(value.clone()));
    }
    axes
}

fn is_secret(spec: &Spec, key: &str) -> bool {
    matches!(spec.env.get(key), Some(EnvValue::Secret(_) | EnvValue::Masked(_) | EnvValue::InjectSecret))
}

impl Point {
    fn with(&self, axis: &Axis, value: &str) -> Self {
        let mut env = self.env.clone();
        env.push(EnvPair { key: axis.key.clone(), value: value.to_owned().into() });
        let difference = match (axis.values.len(), self.difference.as_str()) {
            (1, same) => same.to_owned(),
            (_, "") => format!("{}={value}", axis.key),
            (_, others) => format!("{others}-{}={value}", axis.key),
        };
        Self { env, difference }
    }

    /// The name of this run in a sweep of runs that are called `name`.
    fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.difference).chars().take(LONGEST_NAME).collect()
    }
}

#[cfg(test)]
mod tests {
    use vessl_core::spec::{self, ReadOptions};

    use super::*;

    fn check(env: &[(&str, &str)], expected: std::result::Result<&[&str], &str>) {
        let file = "name: a\nimage: b\nrun: [{command: c}]\nenv: {TOKEN: {secret: t}}";
        let spec = spec::read(file.as_bytes(), ReadOptions::default()).spec.unwrap();
        let pair = |(key, value): &(&str, &str)| EnvPair {
            key: (*key).to_owned(),
            value: (*value).to_owned().into(),
        };
        let env: Vec<EnvPair> = env.iter().map(pair).collect();
        let found = points(&env, &spec).map(|points| {
            let words = |point: &Point| {
                let env: Vec<String> =
                    point.env.iter().map(|pair| format!("{}={}", pair.key, pair.value.expose())).collect();
                format!("{} | {}", point.name("a"), env.join(" "))
            };
            points.iter().map(words).collect::<Vec<_>>()
        });
        let expected = expected.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect());
        assert_eq!(found, expected.map_err(str::to_owned));
    }

    #[test]
    fn every_combination_is_a_run() {
        check(&[("LR", "1,2")], Ok(&["a-LR=1 | LR=1", "a-LR=2 | LR=2"]));
        check(
            &[("LR", "1,2"), ("E", "9"), ("BS", "8,16")],
            Ok(&[
                "a-LR=1-BS=8 | LR=1 E=9 BS=8",
                "a-LR=1-BS=16 | LR=1 E=9 BS=16",
                "a-LR=2-BS=8 | LR=2 E=9 BS=8",
                "a-LR=2-BS=16 | LR=2 E=9 BS=16",
            ]),
        );
        check(&[("LR", "1"), ("LR", "2"), ("LR", "1")], Ok(&["a-LR=1 | LR=1", "a-LR=2 | LR=2"]));
        check(&[("LR", ",2")], Ok(&["a-LR= | LR=", "a-LR=2 | LR=2"]));
        let nothing = "nothing changes in this sweep: give a variable several values, like `-e LR=1e-3,1e-2`";
        check(&[("LR", "1")], Err(nothing));
        check(&[], Err(nothing));
        check(
            &[("TOKEN", "x,y")],
            Err("`TOKEN` is a secret of the file: a sweep would show its values in the names of its runs"),
        );
        let many =
            vec!["x"; 40].iter().enumerate().map(|(n, x)| format!("{x}{n}")).collect::<Vec<_>>().join(",");
        check(&[("A", &many), ("B", &many)], Err("these are more than 1000 runs"));
    }
}
