//! Run files of up to 1 MiB that try to be expensive, each with the code of the problem that it must have. Data only.

/// Largest file that is read.
const MIB: usize = 1 << 20;

/// A hostile file.
pub(crate) struct Input {
    pub(crate) name: &'static str,
    pub(crate) text: Vec<u8>,
    /// Code of one of its errors; `None` for a file that is merely large.
    pub(crate) code: Option<&'static str>,
}

/// A name for several files, and what makes them.
pub(crate) type Group = (&'static str, fn() -> Vec<Input>);

/// A good run up to the place where it turns bad.
const HEAD: &str = "name: x\nimage: i\n";

/// `head`, then as many `unit`s as fit into 1 MiB beside `tail`.
fn filled(head: &str, unit: &str, tail: &str) -> String {
    let room = MIB - head.len() - tail.len();
    format!("{head}{}{tail}", unit.repeat(room / unit.len()))
}

/// `head`, then `most` times `unit`, then `tail`. Files with many problems must have fewer values than are allowed.
fn times(most: usize, head: &str, unit: &str, tail: &str) -> String {
    format!("{head}{}{tail}", unit.repeat(most))
}

/// `head`, then lines made from a counter, up to 1 MiB.
fn counted(head: &str, line: impl Fn(usize) -> String) -> String {
    lines(usize::MAX, head, line)
}

/// `head`, then at most `most` lines made from a counter, up to 1 MiB.
fn lines(most: usize, head: &str, line: impl Fn(usize) -> String) -> String {
    let mut text = head.to_owned();
    for n in 0..most {
        let line = line(n);
        if text.len() + line.len() > MIB {
            break;
        }
        text.push_str(&line);
    }
    text
}

/// Nested maps, each line deeper by one.
fn stairs(step: &str, end: &str) -> String {
    let mut text = HEAD.to_owned();
    for depth in 0.. {
        let line = format!("{}{step}\n", " ".repeat(depth));
        if text.len() + line.len() + end.len() > MIB {
            break;
        }
        text.push_str(&line);
    }
    text + end
}

/// Anchors that each refer to the one before `width` times.
fn bomb(width: usize, value: impl Fn(String) -> String) -> String {
    counted("name: x\nimage: i\na0: &a0 {k: v}\n", |n| {
        let alias = format!("*a{n}, ").repeat(width);
        format!("a{}: &a{} {}\n", n + 1, n + 1, value(alias))
    })
}

/// Every hostile file, in groups that are made when they are needed.
pub(crate) const GROUPS: [Group; 10] = [
    ("aliases", || aliases().into_iter().map(input).collect()),
    ("nesting", || nesting().into_iter().map(input).collect()),
    ("flow", || flow().into_iter().map(input).collect()),
    ("scalars", || scalars().into_iter().map(input).collect()),
    ("keys", || keys().into_iter().map(input).collect()),
    ("tokens", || tokens().into_iter().map(input).collect()),
    ("problems", || problems().into_iter().map(input).collect()),
    ("logins", || logins().into_iter().map(input).collect()),
    ("templates", || templates().into_iter().map(input).collect()),
    ("bytes", || bytes().into_iter().map(input).collect()),
];

fn input<T: Into<Vec<u8>>>((name, code, text): Case<T>) -> Input {
    Input { name, text: text.into(), code }
}

type Case<T = String> = (&'static str, Option<&'static str>, T);

fn aliases() -> Vec<Case> {
    let nodes = Some("too-many-nodes");
    let many = format!("{HEAD}a: &a [{}]\nb: [", "x, ".repeat(30_000));
    let long = format!("{HEAD}description: &a {}\n", "x".repeat(MIB / 2));
    vec![
        ("alias bomb of lists", nodes, bomb(9, |it| format!("[{it}]"))),
        ("alias bomb of maps", nodes, bomb(2, |it| format!("{{k: [{it}], l: [{it}]}}"))),
        ("alias chain", Some("too-deep"), bomb(1, |it| format!("[{it}]"))),
        ("merge bomb", nodes, bomb(9, |it| format!("{{<<: [{it}]}}"))),
        ("merge bomb of wide maps", nodes, bomb(2, |it| format!("{{<<: [{it}], {it}}}"))),
        ("one large list, many aliases", nodes, filled(&many, "*a, ", "]\n")),
        ("anchors", nodes, counted(&format!("{HEAD}a:\n"), |n| format!("- &a{n} x\n"))),
        ("one anchor again and again", nodes, filled(&format!("{HEAD}a:\n"), "- &a x\n", "")),
        ("aliases", nodes, filled(&format!("{HEAD}k: &a x\na:\n"), "- *a\n", "")),
        ("an anchor with a long name", Some("unknown-key"), filled("name: x\nimage: i\nk: &", "a", " x\n")),
        ("an alias with a long name", Some("unknown-alias"), filled("name: x\nimage: *", "a", "\n")),
        ("one long text, many aliases", Some("too-large"), filled(&format!("{long}env:\n"), "  A: *a\n", "")),
        ("one long text, many tags", Some("too-large"), filled(&format!("{long}tags:\n"), "- *a\n", "")),
        ("an alias inside itself", Some("recursive-alias"), filled("name: x\nk: &a [*a", ", x", "]\n")),
        ("merges of one map", nodes, filled("name: x\nimage: i\nb: &b {c: d}\na:\n", "  <<: *b\n", "")),
        ("merges of nothing", Some("bad-merge"), times(45_000, "name: x\nimage: i\nenv:\n", "  <<: 1\n", "")),
    ]
}

fn nesting() -> Vec<Case> {
    let deep = Some("too-deep");
    vec![
        ("open brackets", deep, filled("name: x\nk: ", "[", "")),
        ("open braces", deep, filled("name: x\nk: ", "{", "")),
        ("brackets and braces", deep, filled("name: x\nk: ", "[{a: ", "")),
        ("keys of keys", deep, filled("name: x\nk: ", "{[", "")),
        ("closing brackets", Some("syntax"), filled("name: x\nk: ", "]", "")),
        ("lists on one line", deep, filled("", "- ", "x\n")),
        ("dashes", Some("not-a-run"), "-".repeat(MIB)),
        ("explicit keys on one line", deep, filled("", "? ", "x\n")),
        ("explicit keys, line by line", Some("duplicate-key"), times(45_000, "", "?\n", "")),
        ("values without keys", Some("too-deep"), filled("", ": ", "x\n")),
        ("values without keys, line by line", Some("duplicate-key"), times(45_000, "", ":\n", "")),
        ("deep maps", deep, stairs("a:", "")),
        ("deep lists", Some("syntax"), stairs("-", "")),
        ("falling indentation", Some("syntax"), filled(&" ".repeat(MIB / 2), "a:\n", "")),
    ]
}

fn flow() -> Vec<Case> {
    let nodes = Some("too-many-nodes");
    vec![
        ("a long list on one line", nodes, filled("name: x\nk: [", "a, ", "]\n")),
        ("a long list without blanks", nodes, filled("name: x\nk: [", "a,", "]\n")),
        ("a long list over many lines", Some("syntax"), filled("name: x\nk: [\n", "a,\n", "]\n")),
        ("commas", Some("syntax"), filled("name: x\nk: [", ",", "]\n")),
        ("empty lists", nodes, filled("name: x\nk: [", "[],", "]\n")),
        ("empty maps", nodes, filled("name: x\nk: [", "{},", "]\n")),
        ("pairs", nodes, filled("name: x\nk: [", "a: b,", "]\n")),
        ("pairs without values", nodes, filled("name: x\nk: {", "? ,", "}\n")),
        ("a map without end", nodes, filled("name: x\nk: {", "a: b, ", "")),
        ("a quoted key without a colon", Some("syntax"), filled("name: x\n\"", "a", "\"\n")),
        ("many quoted keys", nodes, counted("name: x\nk: {", |n| format!("\"{n}\": 1,"))),
        ("lists in lists", nodes, filled("name: x\nk: [", "[[[[a]]]],", "]\n")),
    ]
}

fn scalars() -> Vec<Case> {
    let env = |open: &str, unit: &str, close: &str| {
        filled(&format!("{HEAD}env:\n  A: {open}"), unit, &format!("{close}\n"))
    };
    vec![
        ("a long plain text", None, env("", "a", "")),
        ("a long plain text of words", None, env("", "a ", "")),
        ("a long plain text over many lines", None, env("", "a\n   ", "b")),
        ("a plain text with a long gap", None, env("a", " ", "b")),
        ("a plain text with many line ends", None, env("a", "\n", "   b")),
        ("a plain text of colons", None, env("a", ":", "a")),
        ("a plain text of hashes", None, env("a", "#", "")),
        ("a long single-quoted text", None, env("'", "''", "'")),
        ("a long double-quoted text", None, env("\"", "\\n", "\"")),
        ("a double-quoted text over many lines", None, env("\"", "\\\n   ", "\"")),
        ("a double-quoted text of line ends", None, env("\"", "\n", "   \"")),
        ("a double-quoted text of NUL escapes", Some("control-character"), env("\"", "\\0", "\"")),
        ("a quote that does not end", Some("syntax"), env("\"", "a\n", "")),
        ("quotes that do not end", Some("syntax"), env("", "\"a\n", "")),
        ("a long block text", None, env("|\n", "    a\n", "")),
        ("a block text of empty lines", None, env("|\n", "\n", "    a")),
        ("a block text of blanks", None, env("|\n", " ", "")),
        ("a folded text of empty lines", None, env(">\n    a\n", "\n", "    a")),
        (
            "a folded text, deeper and deeper",
            None,
            counted(&format!("{HEAD}env:\n  A: >\n    a\n"), |n| format!("{}a\n", " ".repeat(4 + n))),
        ),
        ("a long name", Some("bad-value"), filled("image: i\nname: ", "a", "\n")),
        ("a long image", Some("bad-value"), filled("name: x\nimage: ", "a", "\n")),
        ("a long path", Some("bad-path"), filled(&format!("{HEAD}import:\n  ? /"), "a/", "\n  : s3://b\n")),
        ("a path of dots", None, filled(&format!("{HEAD}import:\n  ? /a/"), "./", "\n  : s3://b\n")),
        ("a long source", None, filled(&format!("{HEAD}import:\n  /a: s3://b/"), "c/", "\n")),
        ("a long address", Some("bad-source"), filled(&format!("{HEAD}import:\n  /a: git://b/"), "/", "\n")),
        (
            "a long address of hosts",
            Some("syntax"),
            filled(&format!("{HEAD}import:\n  /a: git://"), "a:", "\n"),
        ),
        ("a long number", Some("bad-amount"), filled(&format!("{HEAD}ports: ["), "1", "]\n")),
        ("a long amount", Some("bad-amount"), filled(&format!("{HEAD}resources: {{cpu: "), "1", "}\n")),
        ("a long duration", None, filled(&format!("{HEAD}interactive: {{max_runtime: "), "1ms", "}\n")),
        ("a long command", None, filled(&format!("{HEAD}run: |\n"), "  echo {{ a }} ${x} <b>\n", "")),
    ]
}

fn keys() -> Vec<Case> {
    vec![
        ("the same key", Some("duplicate-key"), times(45_000, "name: x\nimage: i\nenv:\n", "  A: 1\n", "")),
        ("many keys", None, lines(45_000, &format!("{HEAD}env:\n"), |n| format!("  A{n}: 12345678\n"))),
        ("more keys", Some("too-many-nodes"), counted(&format!("{HEAD}env:\n"), |n| format!("  A{n}: 1\n"))),
        (
            "many keys, twice",
            Some("duplicate-key"),
            lines(45_000, &format!("{HEAD}env:\n"), |n| format!("  A{:07}: 1234567\n", n / 2)),
        ),
        ("unknown keys", Some("unknown-key"), lines(45_000, HEAD, |n| format!("k{n:07}: 1234567\n"))),
        (
            "keys alike at their beginning",
            None,
            counted(&format!("{HEAD}env:\n"), |n| format!("  {}{n:06}: 1\n", "A".repeat(500))),
        ),
        ("a key that is too long", Some("syntax"), filled("name: x\n", "a", ": 1\n")),
        (
            "an explicit key that is long",
            Some("unknown-key"),
            filled("name: x\nimage: i\n? ", "a", "\n: 1\n"),
        ),
        ("keys that are lists", Some("bad-key"), times(24_000, "name: x\n", "? [a, b]\n: c\n", "")),
        ("keys that are maps", Some("bad-key"), times(24_000, "name: x\n", "? {a: b}\n: c\n", "")),
        (
            "a key like every key",
            Some("unknown-key"),
            counted(HEAD, |n| format!("{}{n}: 1\n", "interactiveserviceaccountname".repeat(2))),
        ),
    ]
}

fn tokens() -> Vec<Case> {
    vec![
        ("a long comment", Some("empty"), filled("# ", "a", "\n")),
        ("many comments", Some("empty"), filled("", "#\n", "")),
        ("comments behind a value", None, filled(&format!("{HEAD}run: a"), " #", "\n")),
        ("comments between items", None, filled(&format!("{HEAD}run:\n"), "#\n", "- a\n")),
        ("empty lines", Some("empty"), "\n".repeat(MIB)),
        ("blanks", Some("empty"), " ".repeat(MIB)),
        ("tabs", Some("empty"), "\t".repeat(MIB)),
        ("lines of a tab", Some("empty"), "\t\n".repeat(MIB / 2)),
        (
            "tabs before keys",
            Some("unknown-key"),
            lines(45_000, &format!("{HEAD}resources:\n"), |n| format!("\tk{n}: 1234567\n")),
        ),
        ("carriage returns", Some("empty"), "\r".repeat(MIB)),
        (
            "Windows line ends",
            Some("unknown-key"),
            lines(45_000, "name: x\r\nimage: i\r\n", |n| format!("k{n:06}: 123456\r\n")),
        ),
        ("documents", Some("many-documents"), filled(HEAD, "---\n", "")),
        ("document ends", Some("too-many-nodes"), filled(HEAD, "...\n", "")),
        ("directives", Some("syntax"), filled("", "%YAML 1.2\n", "")),
        ("tag directives", Some("syntax"), counted("", |n| format!("%TAG !a{n}! b\n"))),
        ("unknown directives", Some("too-many-nodes"), filled("", "%X y\n", "---\n")),
        ("tags", Some("unknown-tag"), filled("name: x\nimage: i\nk:\n", "- !a b\n", "")),
        ("tags of one value", Some("syntax"), filled("name: x\nimage: ", "!a ", "\n")),
        ("a long tag", Some("unknown-tag"), filled("name: x\nimage: !", "a", " i\n")),
        ("a long verbatim tag", Some("unknown-tag"), filled("name: x\nimage: !<", "%41", "> i\n")),
        ("exclamation marks", Some("syntax"), filled("name: x\nimage: ", "!", "\n")),
        ("anchors of one value", Some("syntax"), filled("name: x\nimage: ", "&a ", "i\n")),
        ("block headers", Some("syntax"), filled("name: x\nk: ", "|", "\n")),
        ("nulls", Some("too-many-nodes"), filled("name: x\nimage: i\nrun:\n", "-\n", "")),
        ("byte order marks", Some("too-many-nodes"), "\u{feff}".repeat(MIB / 3)),
    ]
}

fn problems() -> Vec<Case> {
    let run = |most: usize, section: &str, unit: &str| times(most, &format!("{HEAD}{section}:\n"), unit, "");
    let nodes = Some("too-many-nodes");
    let ten_thousand = |section: &str, entry: fn(usize) -> String| {
        (0..10_000).fold(
            format!(
                "{HEAD}{section}:
"
            ),
            |text, n| text + &entry(n),
        )
    };
    vec![
        ("bad ports", Some("bad-amount"), run(90_000, "ports", "- 1234567\n")),
        ("the same port", None, run(90_000, "ports", "- 8000\n")),
        ("bad paths", nodes, counted(&format!("{HEAD}import:\n"), |n| format!("  a{n}: s3://bucket\n"))),
        ("many paths", nodes, counted(&format!("{HEAD}import:\n"), |n| format!("  /a{n}: s3://bucket/x\n"))),
        (
            "unknown schemes",
            nodes,
            counted(&format!("{HEAD}export:\n"), |n| format!("  /a{n}: s4://bucket\n")),
        ),
        ("old volumes", nodes, counted(&format!("{HEAD}volumes:\n"), |n| format!("  /a{n}: git://a.b/c\n"))),
        ("10 000 paths", None, ten_thousand("import", |n| format!("  /a{n}: s3://bucket/x\n"))),
        ("10 000 bad paths", Some("bad-path"), ten_thousand("import", |n| format!("  a{n}: s3://bucket\n"))),
        ("10 000 old volumes", None, ten_thousand("volumes", |n| format!("  /a{n}: git://a.b/c\n"))),
        (
            "10 000 wrong maps",
            Some("bad-value"),
            ten_thousand("import", |n| format!("  /a{n}: {{git: {{url: a.b/c, ref: '-x'}}}}\n")),
        ),
        ("unknown keys of items", Some("unknown-key"), run(19_000, "run", "- {command: a, k: b}\n")),
        (
            "placeholders in env",
            Some("placeholder"),
            lines(22_000, &format!("{HEAD}env:\n"), |n| format!("  A{n}: {{NAME}}\n")),
        ),
        (
            "placeholders in quotes",
            None,
            lines(45_000, &format!("{HEAD}env:\n"), |n| format!("  A{n}: '{{{{ a }}}}'\n")),
        ),
        (
            "problems on one long line",
            Some("bad-amount"),
            times(90_000, &format!("{HEAD}ports: ["), "x1234567, ", "]\n"),
        ),
        (
            "placeholders on one long line",
            Some("placeholder"),
            times(24_000, &format!("{HEAD}tags: ["), "{NAME_OF_IT}, ", "]\n"),
        ),
        (
            "unknown keys on one long line",
            Some("unknown-key"),
            lines(45_000, &format!("{HEAD}resources: {{"), |n| format!("k{n}: 1, ")) + "}\n",
        ),
        (
            "duplicate keys on one long line",
            Some("duplicate-key"),
            times(45_000, &format!("{HEAD}env: {{"), "A: 1234567, ", "}\n"),
        ),
        (
            "bad keys on one long line",
            Some("bad-key"),
            times(24_000, &format!("{HEAD}env: {{"), "[a]: 12345, ", "}\n"),
        ),
        (
            "secrets on one long line",
            Some("wrong-type"),
            lines(70_000, &format!("{HEAD}env:\n  PORTS: []\n  TOKENS: ["), |n| format!("hun{n:06}, "))
                + "]\n",
        ),
        ("wrong types", Some("wrong-type"), run(45_000, "run", "- - command\n")),
    ]
}

/// Files in which what may be a login is looked for.
fn logins() -> Vec<Case> {
    vec![
        ("logins without end", Some("unknown-scheme"), import("a:b@")),
        ("users without end", Some("unknown-scheme"), import("x @")),
        ("digests without end", Some("unknown-scheme"), import("@sha256:")),
        ("addresses without end", Some("unknown-scheme"), import("://@")),
        ("one login at the end", Some("unknown-scheme"), import("a:b")),
        ("a key of `@`", Some("wrong-type"), filled(&format!("{HEAD}env: {{\""), "@", "\": [x]}\n")),
        (
            "logins in many lines",
            Some("unknown-key"),
            lines(9_000, HEAD, |n| format!("k{n}: \"u:p@h {}\"\n", "@".repeat(80))),
        ),
    ]
}

fn import(unit: &str) -> String {
    filled(&format!("{HEAD}import: {{/a: \""), unit, "@\"}\n")
}

/// Files that cannot be parsed, where the reader looks for the reason.
fn templates() -> Vec<Case> {
    let broken = |unit: &str| filled("name: x\nk: [\n", unit, "\n: :\n");
    vec![
        ("broken, with templates", Some("placeholder"), broken("a: {{ b }}\n")),
        ("broken, with templates on one line", Some("placeholder"), broken("{{ b }} ")),
        ("broken, with half templates", Some("syntax"), broken("{{ b ")),
        ("broken, with half merge templates", Some("syntax"), filled("name: x\nk: \"a\" b ", "<<", "\n")),
        ("broken, with quotes", Some("syntax"), filled("name: x\nk: 'a' b ", " '", "\n")),
        ("broken, with blocks", Some("syntax"), filled("name: x\nk: 'a' b\n", "a: |\n", "")),
        ("broken, with statements", Some("syntax"), filled("name: x\nk: 'a' b\n", "{% a ", "")),
        ("broken behind empty lines", Some("syntax"), filled("name: x\n", "\n", "k: 'a' b\n")),
    ]
}

fn bytes() -> Vec<Case<Vec<u8>>> {
    let mut invalid = filled(HEAD, "# a\n", "").into_bytes();
    invalid.pop();
    invalid.push(0xff);
    vec![
        ("too large", Some("too-large"), vec![b'a'; MIB + 1]),
        ("much too large", Some("too-large"), vec![b'a'; 32 * MIB]),
        ("NUL bytes", Some("control-character"), vec![0; MIB]),
        ("a NUL byte at the end", Some("control-character"), filled(HEAD, "# a\n", "\0").into_bytes()),
        ("invalid UTF-8", Some("not-utf8"), vec![0xff; MIB]),
        ("invalid UTF-8 at the end", Some("not-utf8"), invalid),
        (
            "UTF-16",
            Some("control-character"),
            "name: x\n".repeat(MIB / 16).encode_utf16().flat_map(u16::to_le_bytes).collect(),
        ),
        (
            "a byte order mark and a run",
            None,
            filled("\u{feff}name: x\nimage: i\n", "# a\n", "").into_bytes(),
        ),
    ]
}
