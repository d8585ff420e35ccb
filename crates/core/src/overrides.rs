//! What a submit says in place of the file, or beside it: name, tags and amounts. It changes the spec before anything is planned.
use crate::problem::Problem;
use crate::spec::{GpuRequest, Requests, Spec, labels};
use crate::units::{Cpu, Memory, UnitError};
use crate::wire::Overrides;

impl Overrides {
    /// Puts the values into `spec`, or says which of them cannot be used.
    pub fn apply(&self, spec: &mut Spec) -> Result<(), String> {
        if let Some(name) = &self.name {
            labels::check_name(name)?;
            spec.name.clone_from(name);
        }
        for tag in &self.tags {
            if !spec.tags.contains(tag) {
                spec.tags.push(tag.clone());
            }
        }
        labels::check_tags(&spec.tags)?;
        if let Some(preset) = &self.preset {
            spec.resources.preset = Some(preset.clone());
            spec.resources.requests = None;
        }
        self.amounts(spec)
    }

    /// Gives problems about what is of the submit, and not of the file, the flags of it as their path.
    pub fn name_flags(&self, problems: &mut [Problem]) {
        let amounts = [
            ("--cpu", self.cpu.is_some()),
            ("--memory", self.memory.is_some()),
            ("--gpus", self.gpus.is_some()),
        ];
        let amounts: Vec<&str> =
            amounts.into_iter().filter(|(_, is_given)| *is_given).map(|(flag, _)| flag).collect();
        for problem in problems {
            match problem.path.as_str() {
                "resources.preset" if self.preset.is_some() => "--preset".clone_into(&mut problem.path),
                "resources.requests" if !amounts.is_empty() => problem.path = amounts.join(" "),
                _ => {}
            }
        }
    }

    fn amounts(&self, spec: &mut Spec) -> Result<(), String> {
        let mut requests = spec.resources.requests.take().unwrap_or_default();
        if let Some(cpu) = &self.cpu {
            requests.cpu = Some(cpu.parse::<Cpu>().map_err(|error| of("cpu", &error))?);
            some("cpu", requests.cpu == Some(Cpu(0)))?;
        }
        if let Some(memory) = &self.memory {
            requests.memory = Some(memory.parse::<Memory>().map_err(|error| of("memory", &error))?);
            some("memory", requests.memory == Some(Memory(0)))?;
        }
        requests.gpu = match (self.gpus, requests.gpu.take()) {
            (None, written) => written,
            (Some(0), _) => None,
            (Some(quantity), Some(written)) => Some(GpuRequest { quantity, ..written }),
            (Some(quantity), None) => {
                Some(GpuRequest { device_type: None, quantity, mig_resource_type: None })
            }
        };
        spec.resources.requests = Some(requests).filter(|requests| *requests != Requests::default());
        Ok(())
    }
}

fn some(name: &str, is_none: bool) -> Result<(), String> {
    if is_none { Err(format!("`{name}` must be more than 0")) } else { Ok(()) }
}

fn of(name: &str, error: &UnitError) -> String {
    format!("`{name}`: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{self, ReadOptions};

    fn check(file: &str, overrides: &Overrides, expected: Result<&str, &str>) {
        let text = format!("name: a\nimage: b\nrun: [{{command: c}}]\n{file}");
        let mut spec = spec::read(text.as_bytes(), ReadOptions::default()).spec.unwrap();
        let found = overrides.apply(&mut spec).map(|()| {
            let requests = spec.resources.requests.unwrap_or_default();
            let of = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            let words = [
                spec.name,
                spec.tags.join("+"),
                of(spec.resources.preset),
                of(requests.cpu.map(|cpu| cpu.to_string())),
                of(requests.memory.map(|memory| memory.to_string())),
                of(requests
                    .gpu
                    .map(|gpu| format!("{}x{}", gpu.quantity, gpu.device_type.unwrap_or_default()))),
            ];
            words.join(" ")
        });
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn the_submit_counts_before_the_file() {
        let none = Overrides::default();
        let text = |text: &str| Some(text.to_owned());
        let written = "tags: [x]\nresources: {preset: p, requests: {cpu: 2, memory: 4Gi, nvidia.com/gpu: {device_type: A100, quantity: 1}}}";
        check(written, &none, Ok("a x p 2 4Gi 1xA100"));
        check("", &none, Ok("a  - - - -"));
        let named = Overrides { name: text("n"), tags: vec!["x".into(), "y".into()], ..none.clone() };
        check(written, &named, Ok("n x+y p 2 4Gi 1xA100"));
        check(written, &Overrides { preset: text("q"), ..none.clone() }, Ok("a x q - - -"));
        check(
            written,
            &Overrides { cpu: text("500m"), gpus: Some(4), ..none.clone() },
            Ok("a x p 500m 4Gi 4xA100"),
        );
        check(
            written,
            &Overrides { gpus: Some(0), memory: text("1Gi"), ..none.clone() },
            Ok("a x p 2 1Gi -"),
        );
        check("", &Overrides { gpus: Some(2), ..none.clone() }, Ok("a  - - - 2x"));
        check("", &Overrides { name: text(" "), ..none.clone() }, Err("`name` is blank"));
        check("", &Overrides { tags: vec![String::new()], ..none.clone() }, Err("`tag` is blank"));
        check("", &Overrides { cpu: text("0"), ..none.clone() }, Err("`cpu` must be more than 0"));
        let wrong = Overrides { cpu: text("many"), ..none };
        check("", &wrong, Err("`cpu`: `many` is not a number of cores such as `4`, `0.5` or `500m`"));
    }

    #[test]
    fn a_problem_names_the_flag_that_it_is_about() {
        let check = |overrides: &Overrides, path: &str, expected: &str| {
            let mut problems = [Problem { path: path.to_owned(), ..Problem::default() }];
            overrides.name_flags(&mut problems);
            assert_eq!(problems[0].path, expected);
        };
        let text = |text: &str| Some(text.to_owned());
        let none = Overrides::default();
        let preset = Overrides { preset: text("p"), ..none.clone() };
        let amounts = Overrides { cpu: text("1"), gpus: Some(2), ..none.clone() };
        check(&none, "resources.preset", "resources.preset");
        check(&none, "resources.requests", "resources.requests");
        check(&preset, "resources.preset", "--preset");
        check(&preset, "resources.requests", "resources.requests");
        check(&amounts, "resources.requests", "--cpu --gpus");
        check(&amounts, "resources.preset", "resources.preset");
        check(&amounts, "resources.cluster", "resources.cluster");
    }
}
