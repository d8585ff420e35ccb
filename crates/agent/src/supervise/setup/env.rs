//! The environment of the commands: the image's below, the product's own, the plan's on top.
use vessl_core::plan::{EnvFrom, Plan};
use vessl_core::record::Secrets;

/// Where programs are when the image does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The plan names a value that did not come through the pipe.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value of the secret variable `{0}` did not reach the agent")]
pub(crate) struct MissingSecret(pub String);

/// `KEY=VALUE` pairs; a key stands once, the last value counts.
pub(crate) fn build(
    plan: &Plan,
    image: &[String],
    home: &str,
    secrets: &Secrets,
) -> Result<Vec<String>, MissingSecret> {
    let mut env = Vec::new();
    set(&mut env, "PATH", PATH);
    set(&mut env, "HOME", home);
    // Python keeps what it prints to a pipe, and a killed run would lose it.
    set(&mut env, "PYTHONUNBUFFERED", "1");
    for pair in image {
        if let Some((key, value)) = pair.split_once('=') {
            set(&mut env, key, value);
        }
    }
    for (key, value) in own(plan) {
        set(&mut env, key, &value);
    }
    for variable in &plan.env {
        let value = match &variable.value {
            EnvFrom::Text(text) => text,
            EnvFrom::Secret(name) => {
                secrets.env.get(name).ok_or_else(|| MissingSecret(variable.key.clone()))?.expose()
            }
        };
        set(&mut env, &variable.key, value);
    }
    Ok(env.into_iter().map(|(key, value)| format!("{key}={value}")).collect())
}

/// Name of the container on the network and in the shell's prompt.
pub(crate) fn hostname(plan: &Plan) -> String {
    format!("run-{}", plan.run.0)
}

fn own(plan: &Plan) -> [(&'static str, String); 7] {
    [
        ("HOSTNAME", hostname(plan)),
        ("VESSL_RUN_ID", plan.run.0.to_string()),
        ("VESSL_RUN_NAME", plan.name.clone()),
        ("VESSL_RUN_ATTEMPT", plan.attempt.to_string()),
        ("VESSL_ORGANIZATION", plan.project.organization.to_string()),
        ("VESSL_PROJECT", plan.project.project.to_string()),
        ("VESSL_CLUSTER", plan.cluster.to_string()),
    ]
}

/// Adds `dir` at the end of the list of directories in `KEY=…`, if it is not in it.
pub(crate) fn add_dir(env: &mut Vec<String>, key: &str, dir: &str) {
    let value = env.iter_mut().find(|pair| pair.split_once('=').is_some_and(|(known, _)| known == key));
    match value {
        None => env.push(format!("{key}={dir}")),
        Some(pair) if pair.ends_with('=') => pair.push_str(dir),
        Some(pair) if pair[key.len() + 1..].split(':').any(|known| known.trim_end_matches('/') == dir) => {}
        Some(pair) => *pair = format!("{pair}:{dir}"),
    }
}

fn set(env: &mut Vec<(String, String)>, key: &str, value: &str) {
    match env.iter_mut().find(|(known, _)| known == key) {
        Some((_, known)) => value.clone_into(known),
        None => env.push((key.to_owned(), value.to_owned())),
    }
}
