//! The top of a run file, its resources, image and commands: nodes → [`Spec`].
use super::data::{self, without_places};
use super::fields::{At, Fields, Reader};
use super::problem::{Code, Report};
use super::tree::{Kind, Node};
use super::types::{GpuRequest, Image, Item, Requests, Resources, Spec};
use super::{env, keys, labels, old, session, syntax, unseen};
use crate::reference::Reference;
use crate::units::{Cpu, Memory, Span};

/// Reads the whole file. `None` if there is nothing that could be a run; every problem is reported.
pub(super) fn read(reader: &mut Reader<'_, '_>, root: &Node) -> Option<Spec> {
    let top = At::top(root);
    if let Some(report) = sibling(root) {
        reader.only_error(&top, report);
        return None;
    }
    if !matches!(root.kind, Kind::Map(_)) {
        let report = Report::new(Code::NotARun, "a run file is a map, and this is not");
        reader.error(&top, report.hint("begin with `name:` and `image:`"));
        return None;
    }
    let fields = reader.fields(top, &keys::RUN, "a map")?;
    let mut data = data::read(reader, &fields);
    if let Some(at) = fields.get("volumes") {
        old::read_volumes(reader, &at, &mut data);
    }
    let name = read_name(reader, &fields);
    let image = read_image(reader, &fields);
    let (interactive, ports) = session::read(reader, &fields);
    let protection = fields.get("termination_protection").and_then(|at| reader.flag(&at));
    let spec = Spec {
        name: name.unwrap_or_default(),
        description: fields.get("description").and_then(|at| read_description(reader, &at)),
        tags: read_tags(reader, &fields),
        resources: fields.get("resources").map(|at| read_resources(reader, at)).unwrap_or_default(),
        image: image.unwrap_or_else(|| Image { url: String::new(), credential_name: None }),
        import: without_places(data.import),
        mount: without_places(data.mount),
        export: without_places(data.export),
        run: fields.get("run").map(|at| read_items(reader, &at)).unwrap_or_default(),
        interactive,
        ports,
        env: fields.get("env").map(|at| env::read(reader, &at)).unwrap_or_default(),
        service_account_name: read_service_account(reader, &fields),
        termination_protection: protection.unwrap_or_default(),
    };
    Some(spec)
}

/// Recognises the documents of the hosted product's other kinds.
fn sibling(root: &Node) -> Option<Report> {
    let Kind::Map(entries) = &root.kind else { return None };
    let has = |key: &str| entries.iter().any(|e| e.name() == key);
    if has("service") || has("autoscaling") || has("launch_immediately") {
        let message = "this file describes a service, which serves requests for as long as it is deployed; it is not a run";
        let hint = "to run it once, remove the service keys and list its port under `ports`";
        return Some(Report::new(Code::ServiceFile, message).hint(hint));
    }
    if has("steps") || (has("api_version") && has("variables")) {
        let message = "this file describes a pipeline, which chains several runs; it is not a run";
        let hint = "to run one step, save its `run_spec` as a file of its own";
        return Some(Report::new(Code::PipelineFile, message).hint(hint));
    }
    None
}

fn read_name(reader: &mut Reader<'_, '_>, fields: &Fields<'_>) -> Option<String> {
    let at = reader.required(fields, "name", "`name: my-run`")?;
    let name = reader.prose(&at, "`name: my-run`")?;
    let report = |why| Report::new(Code::BadValue, why).hint("write `name: my-run`");
    reader.take(&at, labels::check_name(&name).map(|()| name).map_err(report))
}

fn read_description(reader: &mut Reader<'_, '_>, at: &At<'_>) -> Option<String> {
    let text = reader.prose(at, "`description: text`")?;
    let report = |why| Report::new(Code::BadValue, why).hint("keep a long text in a file beside the code");
    reader.take(at, labels::check_description(&text).map(|()| text).map_err(report))
}

fn read_tags(reader: &mut Reader<'_, '_>, fields: &Fields<'_>) -> Vec<String> {
    let Some(at) = fields.get("tags") else { return Vec::new() };
    let items = reader.list(&at, "a list such as `[best, a100]`");
    let tags: Vec<_> =
        items.iter().filter_map(|item| reader.prose(item, "a list such as `[best, a100]`")).collect();
    let report = |why| Report::new(Code::BadValue, why).hint("write a list such as `[best, a100]`");
    reader.take(&at, labels::check_tags(&tags).map(|()| tags).map_err(report)).unwrap_or_default()
}

fn read_service_account(reader: &mut Reader<'_, '_>, fields: &Fields<'_>) -> Option<String> {
    let at = fields.get("service_account_name")?;
    if at.node.text().is_some_and(str::is_empty) {
        return Some(String::new());
    }
    reader.word(&at, "`service_account_name: name`")
}

fn read_image(reader: &mut Reader<'_, '_>, fields: &Fields<'_>) -> Option<Image> {
    let form = "`image: registry/repository:tag`";
    let at = reader.required(fields, "image", form)?;
    if !matches!(at.node.kind, Kind::Map(_)) {
        let url = reader.word(&at, form)?;
        let url = reader.take(&at, image_url(&url))?;
        return Some(Image { url, credential_name: None });
    }
    let fields = reader.fields(at, &keys::IMAGE, form)?;
    let credential_name = reader.optional_word(&fields, "credential_name", "the name of a stored credential");
    let at = reader.required(&fields, "url", "`url: registry/repository:tag`")?;
    let url = reader.word(&at, "`url: registry/repository:tag`")?;
    let url = reader.take(&at, image_url(&url))?;
    Some(Image { url, credential_name })
}

/// Checks the form; whether the image exists is found out when it is needed.
fn image_url(text: &str) -> Result<String, Report> {
    let text = text.trim();
    let refused = |message: String, hint: &str| Err(Report::new(Code::BadValue, message).hint(hint));
    // The path of an image on the machine has any characters.
    if !text.starts_with("oci://") && text.contains(|c: char| c.is_whitespace() || "{}<>\"'`$".contains(c)) {
        let message = format!("the image `{}` has a character that no image has", syntax::clip(text));
        return refused(message, "write `registry/repository:tag`");
    }
    if matches!(text, "host" | "localhost") {
        let hint = format!(
            "did you mean `host://`, the root file system of this machine? an image of that name is `docker.io/library/{text}`"
        );
        return refused(format!("`{text}` alone is not taken for an image"), &hint);
    }
    match text.strip_prefix("host:") {
        Some("" | "/") => return refused(format!("`{text}` is not an image"), "did you mean `host://`?"),
        Some(slashes) if slashes.bytes().all(|byte| byte == b'/') => return Ok("host://".to_owned()),
        _ => {}
    }
    match Reference::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(e) => refused(e.to_string(), "write `registry/repository:tag`, `oci:///path` or `host://`"),
    }
}

fn read_resources(reader: &mut Reader<'_, '_>, at: At<'_>) -> Resources {
    let form = "a map such as `resources: {cluster: local, preset: cpu-small}`";
    let Some(fields) = reader.fields(at, &keys::RESOURCES, form) else { return Resources::default() };
    let mut requests = fields.get("requests").map(|at| read_requests(reader, at));
    old::read_resources(reader, &fields, &mut requests);
    Resources {
        cluster: reader.optional_word(&fields, "cluster", "`cluster: local`"),
        node_names: reader.words(&fields, "node_names", "a list such as `[node-1, node-2]`"),
        preset: reader.optional_word(&fields, "preset", "`preset: cpu-small`"),
        requests,
        spot: fields.get("spot").and_then(|at| reader.flag(&at)).unwrap_or_default(),
    }
}

fn read_requests(reader: &mut Reader<'_, '_>, at: At<'_>) -> Requests {
    let Some(fields) = reader.fields(at, &keys::REQUESTS, "`requests: {cpu: 4, memory: 16Gi}`") else {
        return Requests::default();
    };
    Requests {
        memory: fields.get("memory").and_then(|at| bytes(reader, &at)),
        disk: fields.get("disk").and_then(|at| bytes(reader, &at)),
        cpu: fields.get("cpu").and_then(|at| cores(reader, &at)),
        gpu: fields.get("nvidia.com/gpu").and_then(|at| read_gpu(reader, at)),
        mig: fields.get("nvidia.com/mig").and_then(|at| read_gpu(reader, at)),
    }
}

/// Reads cores, more than 0.
pub(super) fn cores(reader: &mut Reader<'_, '_>, at: &At<'_>) -> Option<Cpu> {
    let cpu = reader.amount::<Cpu>(at, "`cpu: 4`")?;
    positive(reader, at, cpu.0).map(Cpu)
}

/// Reads bytes, more than 0.
pub(super) fn bytes(reader: &mut Reader<'_, '_>, at: &At<'_>) -> Option<Memory> {
    let memory = reader.amount::<Memory>(at, &format!("`{}: 16Gi`", at.name()))?;
    positive(reader, at, memory.0).map(Memory)
}

/// Refuses a request for nothing.
fn positive(reader: &mut Reader<'_, '_>, at: &At<'_>, amount: u64) -> Option<u64> {
    if amount == 0 {
        let report = Report::new(Code::BadAmount, format!("`{}` asks for nothing", at.name()));
        reader.error(at, report.hint("leave it out, or ask for more than 0"));
    }
    (amount > 0).then_some(amount)
}

fn read_gpu(reader: &mut Reader<'_, '_>, at: At<'_>) -> Option<GpuRequest> {
    let fields = reader.fields(at, &keys::GPU, "`{device_type: A100, quantity: 1}`")?;
    let product = fields.get("device_type").filter(|at| at.node.text() != Some(""));
    let device_type =
        product.and_then(|at| reader.word(&at, "`device_type: A100`")).and_then(|t| old::product_name(&t));
    let mig_resource_type =
        reader.optional_word(&fields, "mig_resource_type", "`mig_resource_type: 1g.10gb`");
    let at = reader.required(&fields, "quantity", "`quantity: 1`")?;
    let quantity = reader.whole(&at, 1..=u64::from(u32::MAX), "`quantity: 1`")?;
    Some(GpuRequest { device_type, quantity: u32::try_from(quantity).ok()?, mig_resource_type })
}

fn read_items(reader: &mut Reader<'_, '_>, at: &At<'_>) -> Vec<Item> {
    const FORM: &str = "a list such as `- command: python train.py`, or text";
    if let Some(text) = at.node.text() {
        unseen::note(reader, &[(at.clone(), text)]);
        return command(reader, at).into_iter().collect();
    }
    let mut items = Vec::new();
    let nodes = reader.list(at, FORM);
    for item in nodes.iter().cloned() {
        if item.node.text().is_some() {
            items.extend(command(reader, &item));
        } else if let Some(fields) = reader.fields(item, &keys::ITEM, "`command: python train.py`") {
            items.extend(read_item(reader, &fields));
        }
    }
    unseen::note(reader, &nodes.iter().filter_map(shell_text).collect::<Vec<_>>());
    items
}

/// The text of an item, and where it is.
fn shell_text<'n>(item: &At<'n>) -> Option<(At<'n>, &'n str)> {
    if let Some(text) = item.node.text() {
        return Some((item.clone(), text));
    }
    let Kind::Map(entries) = &item.node.kind else { return None };
    let entry = entries.iter().find(|entry| entry.name() == "command")?;
    Some((item.child("command", &entry.value), entry.value.text()?))
}

/// An item that is text alone. Nothing but white space is no item.
fn command(reader: &mut Reader<'_, '_>, at: &At<'_>) -> Option<Item> {
    let command = if at.node.is_null() { String::new() } else { reader.raw_text(at, "a command")? };
    (!command.trim().is_empty()).then_some(Item { command: Some(command), workdir: None, wait: None })
}

fn read_item(reader: &mut Reader<'_, '_>, fields: &Fields<'_>) -> Option<Item> {
    let written = fields.get("command");
    let command = written.as_ref().and_then(|at| reader.raw_text(at, "`command: python train.py`"));
    let workdir = reader.optional_word(fields, "workdir", "`workdir: /code`");
    let wait = fields.get("wait").and_then(|at| reader.amount::<Span>(&at, "a duration such as `10s`"));
    if written.is_some() && command.is_none() {
        return None; // reported where it was read
    }
    let nothing = command.as_deref().is_none_or(|text| text.trim().is_empty());
    if nothing && wait.is_none() && fields.get("wait").is_none() {
        if fields.all_known(&keys::ITEM) {
            let report = Report::new(Code::MissingKey, "this item of `run` has neither a command nor a wait");
            reader.error(&fields.at, report.hint("add `command: …` or `wait: 10s`"));
        }
        return None;
    }
    Some(Item { command: command.filter(|_| !nothing), workdir, wait })
}
