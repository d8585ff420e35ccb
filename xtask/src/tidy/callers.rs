//! Who asks is passed on: a handler of the API that works on the server's rooms takes the caller and gives it to them.
use super::Finding;
use super::tree::SourceFile;

const API: &str = "crates/server/src/api/";

/// Checks every handler. Those that are open to all (`security(())`) have no caller.
pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let inside = files.iter().filter(|file| file.path.starts_with(API) && file.is_rust());
    inside.flat_map(|file| of_file(&file.path, &file.text)).collect()
}

fn of_file(path: &str, text: &str) -> Vec<Finding> {
    let starts: Vec<usize> = text.match_indices("#[utoipa::path(").map(|(at, _)| at).collect();
    let mut findings = Vec::new();
    for &at in &starts {
        // From the attribute to the end of the function, which is the first brace in the first column.
        let end = text[at..].find("\n}").map_or(text.len(), |end| at + end);
        let handler = &text[at..end];
        let works = handler.contains("State(api)") && !handler.contains("security(())");
        if works && !(handler.contains("Extension<Caller>") && handler.contains("caller")) {
            findings.push(Finding::new(path, line_of(text, at), "a handler takes no caller"));
        } else if works && handler.matches("caller").count() < 2 {
            findings.push(Finding::new(path, line_of(text, at), "a handler does not pass its caller on"));
        }
    }
    findings
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(signature: &str, body: &str, expected: &[&str]) {
        let text = format!(
            "//! x\n#[utoipa::path(get, path = \"/x\")]\npub(super) async fn x({signature}) {{\n    {body}\n}}\n"
        );
        let found = of_file("crates/server/src/api/x.rs", &text);
        let found: Vec<_> = found.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn handlers_take_the_caller_and_pass_it_on() {
        let (state, caller) = ("State(api): State<Api>", "Extension(caller): Extension<Caller>");
        check_text(&format!("{state}, {caller}"), "api.control.runs(&caller)", &[]);
        check_text(state, "api.control.runs()", &["a handler takes no caller"]);
        check_text(
            &format!("{state}, {caller}"),
            "api.control.runs()",
            &["a handler does not pass its caller on"],
        );
        check_text("", "document()", &[]);
    }
}
