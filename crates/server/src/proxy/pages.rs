//! What is answered where no program of a run answers: a small page without scripts, or a line for clients that want no page.

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::control::{NoWay, PortOf};

/// Why a request is not sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It makes no sense.
    Malformed(&'static str),
    /// Nothing goes by the name of its host; the domain of those that do.
    WrongHost(String),
    /// Its path is of no port.
    NoPath,
    /// It belongs to this place.
    Moved(String),
    /// A page of somebody else has sent it.
    Foreign,
    /// The port cannot be reached.
    NoWay(PortOf, NoWay),
    /// The program of the port answers nothing that could be sent on.
    NoAnswer(PortOf, String),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::WrongHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::NoPath | Self::NoWay(_, NoWay::NoRun | NoWay::Undeclared | NoWay::Kind(_)) => {
                StatusCode::NOT_FOUND
            }
            Self::Moved(_) => StatusCode::PERMANENT_REDIRECT,
            Self::Foreign => StatusCode::FORBIDDEN,
            Self::NoWay(_, NoWay::Closed) => StatusCode::UNAUTHORIZED,
            Self::NoWay(_, NoWay::Ended(_)) => StatusCode::GONE,
            Self::NoWay(_, NoWay::NotRunning(_)) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoWay(_, NoWay::Nobody | NoWay::Failed(_)) | Self::NoAnswer(..) => StatusCode::BAD_GATEWAY,
        }
    }

    /// What is so, and what to do.
    fn words(&self) -> (String, String) {
        let (what, next) = match self {
            Self::Malformed(why) => (format!("the request makes no sense: {why}"), String::new()),
            Self::WrongHost(domain) => (
                "nothing goes by this host name here".to_owned(),
                format!(
                    "a port of a run has the host name PORT-RUN.{domain}; `vessl run open RUN PORT` prints the link"
                ),
            ),
            Self::NoPath => (
                "there is nothing at this path: ports of runs are below `/runs/RUN/ports/PORT/`".to_owned(),
                "`vessl run open RUN PORT` prints the link".to_owned(),
            ),
            Self::Moved(to) => (format!("it is at {to}"), String::new()),
            Self::Foreign => (
                "a page of another site sent this request, and the port is not public".to_owned(),
                String::new(),
            ),
            Self::NoWay(to, why) => return of_port(*to, why),
            Self::NoAnswer(to, why) => (
                format!("what listens on port {} of run {} gave no answer: {why}", to.port, to.run.0),
                format!("`vessl run logs {}` may say more", to.run.0),
            ),
        };
        (what, next)
    }

    /// The answer, in the form that the client takes.
    pub(super) fn answer(&self, asked: &HeaderMap) -> Response<Body> {
        let (what, next) = self.words();
        let mut response = page(self.status(), asked, &what, &next);
        if let Self::Moved(to) = self
            && let Ok(to) = HeaderValue::from_str(to)
        {
            response.headers_mut().insert(header::LOCATION, to);
        }
        if matches!(self, Self::NoWay(_, NoWay::Nobody | NoWay::NotRunning(_))) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

fn of_port(PortOf { run, port }: PortOf, why: &NoWay) -> (String, String) {
    let run = run.0;
    match why {
        NoWay::NoRun => {
            (format!("there is no run {run}"), "`vessl run list` shows the runs there are".to_owned())
        }
        NoWay::Undeclared => (
            format!("the file of run {run} declares no port {port}"),
            format!("add it to `ports`, or use `vessl run port-forward {run} {port}`"),
        ),
        NoWay::Kind(kind) => (
            format!("port {port} of run {run} is a `{}` port", kind.word()),
            format!("`vessl run read {run}` shows where it is reached"),
        ),
        NoWay::Closed => (
            format!("port {port} of run {run} is private"),
            format!("`vessl run open {run} {port}` opens it in this browser"),
        ),
        NoWay::Ended(status) => (format!("run {run} has ended ({})", status.word()), String::new()),
        NoWay::NotRunning(status) => (
            format!("run {run} is {}: its container does not run", status.word()),
            format!("`vessl run explain {run}` says why"),
        ),
        NoWay::Nobody => (
            format!("nothing listens on port {port} of run {run} yet"),
            format!("try again in a moment; `vessl run logs {run}` shows how far it has come"),
        ),
        NoWay::Failed(why) => (format!("port {port} of run {run} cannot be reached: {why}"), String::new()),
    }
}

/// Where to go on with the pass.
pub(super) fn seen(place: &str, cookie: Option<String>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    if let Ok(place) = HeaderValue::from_str(place) {
        headers.insert(header::LOCATION, place);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Some(Ok(cookie)) = cookie.map(HeaderValue::try_from) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    response
}

fn page(status: StatusCode, asked: &HeaderMap, what: &str, next: &str) -> Response<Body> {
    let accept = asked.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let (kind, text) = if accept.contains("text/html") {
        ("text/html; charset=utf-8", html(status, what, next))
    } else {
        let next = if next.is_empty() { String::new() } else { format!("{next}\n") };
        ("text/plain; charset=utf-8", format!("{what}\n{next}"))
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn html(status: StatusCode, what: &str, next: &str) -> String {
    let next = if next.is_empty() { String::new() } else { format!("<p>{}</p>\n", marked(next)) };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{} · vessl</title>\n\
         <style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:15vh auto;padding:0 1rem}}\
         code{{font:14px ui-monospace,monospace}}</style>\n<h1>{}</h1>\n{next}</html>\n",
        status.as_str(),
        marked(what)
    )
}

/// As HTML, with what stands in backticks as code.
fn marked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (nth, part) in text.split('`').enumerate() {
        if nth > 0 {
            shown.push_str(if nth % 2 == 1 { "<code>" } else { "</code>" });
        }
        for letter in part.chars() {
            match letter {
                '<' => shown.push_str("&lt;"),
                '>' => shown.push_str("&gt;"),
                '&' => shown.push_str("&amp;"),
                letter => shown.push(letter),
            }
        }
    }
    shown
}

/// The cookie that keeps a pass: for its host alone, or below its path.
pub(super) fn cookie(name: &str, pass: &str, path: Option<&str>) -> String {
    let seconds = crate::control::PASS_LIFE.as_secs();
    match path {
        None => format!("{name}={pass}; Secure; HttpOnly; SameSite=Lax; Path=/; Max-Age={seconds}"),
        Some(path) => format!("{name}={pass}; HttpOnly; SameSite=Lax; Path={path}/; Max-Age={seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use vessl_core::ids::RunId;
    use vessl_core::run::Status;

    use super::*;

    #[test]
    fn each_refusal_has_its_status_and_says_what_to_do() {
        let to = PortOf { run: RunId(7), port: 80 };
        for (refusal, status, words) in [
            (Refusal::NoWay(to, NoWay::Nobody), 502, "nothing listens on port 80 of run 7 yet"),
            (Refusal::NoWay(to, NoWay::Ended(Status::Completed)), 410, "run 7 has ended (completed)"),
            (Refusal::NoWay(to, NoWay::NoRun), 404, "there is no run 7"),
            (Refusal::NoWay(to, NoWay::Undeclared), 404, "the file of run 7 declares no port 80"),
            (Refusal::NoWay(to, NoWay::NotRunning(Status::Queued)), 503, "run 7 is queued"),
            (Refusal::NoWay(to, NoWay::Closed), 401, "vessl run open 7 80"),
            (Refusal::WrongHost("d".to_owned()), 421, "PORT-RUN.d"),
            (Refusal::Foreign, 403, "another site"),
        ] {
            let shown = refusal.answer(&HeaderMap::new());
            assert_eq!(shown.status(), status, "{refusal:?}");
            assert_eq!(shown.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
            let (what, next) = refusal.words();
            assert!(format!("{what}\n{next}").contains(words), "{refusal:?}: {what} {next}");
        }
        let mut browser = HeaderMap::new();
        browser.insert(header::ACCEPT, HeaderValue::from_static("text/html,*/*"));
        let shown = Refusal::NoWay(to, NoWay::Closed).answer(&browser);
        assert_eq!(shown.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(marked("a `b <c>` & d"), "a <code>b &lt;c&gt;</code> &amp; d");
    }
}
