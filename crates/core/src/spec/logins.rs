//! Hides the logins and queries of the addresses in a text. A password may have any character in it, so that rather too
//! much is hidden than too little.
use std::ops::Range;

/// Stands for what is hidden in a sentence.
pub(super) const COVER: &str = "***";

/// What ends an address, if it is written well.
const ENDS: [char; 3] = ['"', '\'', '`'];

/// The text with [`COVER`] for what is hidden.
pub(super) fn without_logins(text: &str) -> String {
    hide(text, |_| COVER.to_owned())
}

/// The text with `cover` in place of the logins and queries in it.
pub(super) fn hide(text: &str, cover: impl Fn(&str) -> String) -> String {
    let text = replace(text, &logins(text), &cover);
    replace(&text, &queries(&text), &cover)
}

/// The text with `cover` in place of `ranges`, which are sorted.
pub(super) fn replace(text: &str, ranges: &[Range<usize>], cover: &impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for range in ranges {
        out.push_str(&text[done..range.start]);
        out.push_str(&cover(&text[range.clone()]));
        done = range.end;
    }
    out + &text[done..]
}

/// What stands before an `@` and may be a login; a mere user like that of `git@host` is none. Each character is looked at
/// a few times only, however many `@` there are.
fn logins(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut begin = 0;
    for (at, _) in text.match_indices('@') {
        let before = &text[begin..at];
        let goes_on = found.last().is_some_and(|last| last.end + 1 == begin);
        if is_image(before, &text[at + 1..]) {
            // Nothing to hide.
        } else if let (true, false, Some(last)) = (goes_on, before.contains([':', '`']), found.last_mut()) {
            // A password with an `@` in it.
            last.end = at;
        } else {
            found.extend(login_start(before).map(|start| begin + start..at));
        }
        begin = at + 1;
    }
    found.retain(|range| !range.is_empty());
    found
}

/// Where the login begins that ends with `before`, if it ends with one.
fn login_start(before: &str) -> Option<usize> {
    let value = last_value(before);
    if let Some((scheme, login)) = address(value) {
        let token = scheme != "ssh" && !login.contains('/');
        return (token || login.contains(':')).then(|| before.len() - login.len());
    }
    // `user:password`; the colon of a key has a blank behind it or a quote before it.
    let colon = value.match_indices(':').map(|(at, _)| at).find(|at| {
        let behind = value[at + 1..].chars().next().is_none_or(|c| !c.is_whitespace());
        behind && !value[..*at].ends_with(ENDS)
    })?;
    let start = value[..colon].rfind(begins_word).map_or(0, |at| at + char_at(value, at));
    Some(before.len() - value.len() + start)
}

/// What stands behind the last quote that ends a value: another value, which has its own login.
fn last_value(text: &str) -> &str {
    let bytes = text.as_bytes();
    let ends = |pair: &[u8]| matches!(pair, [b'"' | b'\'', b',' | b'}' | b']']);
    bytes.windows(2).rposition(ends).map_or(text, |at| &text[at + 2..])
}

/// Scheme and rest of the last address in `text` that begins a word.
fn address(text: &str) -> Option<(&str, &str)> {
    text.rmatch_indices("://").find_map(|(at, mark)| {
        let before = &text[..at];
        let word = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let begins = word.chars().next_back().is_none_or(begins_word);
        begins.then(|| (&before[word.len()..], &text[at + mark.len()..]))
    })
}

/// Whether an `@` stands between an image and its digest.
fn is_image(before: &str, after: &str) -> bool {
    let name = before.rsplit(ends_word).next().unwrap_or_default();
    let digest = |algorithm: &str, length: usize| {
        let rest = after.strip_prefix(algorithm)?;
        let digits = rest.bytes().take(length + 1).take_while(u8::is_ascii_hexdigit).count();
        let is_whole = digits == length
            && rest[length..].chars().next().is_none_or(|c| ends_word(c) || ",)]}".contains(c));
        Some(is_whole)
    };
    !name.contains("://") && digest("sha256:", 64).or_else(|| digest("sha512:", 128)) == Some(true)
}

fn begins_word(c: char) -> bool {
    ends_word(c) || "[{(".contains(c)
}

fn char_at(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(0, char::len_utf8)
}

/// What stands behind the `?`, `#` or `;` of an address with parameters.
fn queries(text: &str) -> Vec<Range<usize>> {
    let mut begin = 0;
    let words = text.split_inclusive(ends_word).map(|word| {
        begin += word.len();
        (begin - word.len(), word.trim_end_matches(ends_word))
    });
    let query = |(begin, word): (usize, &str)| {
        let asks = word.find('?').filter(|at| word.contains("://") || word[*at..].contains('='));
        let marked = || word.find(['#', ';']).filter(|at| word.contains("://") && word[*at..].contains('='));
        let start = asks.or_else(marked)? + 1;
        Some(begin + start..begin + word.len())
    };
    words.filter_map(query).collect()
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || ENDS.contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(without_logins(text), expected, "{text}");
    }

    #[test]
    fn logins_are_hidden() {
        check("`https://bob:pw@reg.io/x`, `bob:pw@reg.io/x`", "`https://***@reg.io/x`, `***@reg.io/x`");
        check("url: 'https://token@h.io/x/y'", "url: 'https://***@h.io/x/y'");
        check("git://token@h.io/x/y", "git://***@h.io/x/y");
        check("http://a:p@ss@h:80/x", "http://***@h:80/x");
        check("ssh://git@h.io/x git@h.io:x/y", "ssh://git@h.io/x git@h.io:x/y");
        check("git+https://h.io/x/y@main", "git+https://h.io/x/y@main");
        check("ssh://u:pw@h.io/x", "ssh://***@h.io/x");
        check("{image: u:pw@shard.io:5000/x}", "{image: ***@shard.io:5000/x}");
        check("{\"image\":\"u:pw@h.io\",\"ref\":\"a@b\"}", "{\"image\":\"***@h.io\",\"ref\":\"a@b\"}");
        for login in ["u:hunt/er2", "u:pa'ss", "u:pa\"ss", "u:hun ter2", "u:hunt/er@2", "u:p@s s", "ü:p`s"] {
            check(&format!("image: {login}@h.io/x"), "image: ***@h.io/x");
            check(&format!("image: \"https://{login}@h.io/x\""), "image: \"https://***@h.io/x\"");
        }
        check("me@example.org @x key: @y", "me@example.org @x key: @y");
        check("{url: \"https://h.io/x\", to: \"u:pw@h\"}", "{url: \"https://h.io/x\", to: \"***@h\"}");
        check("https://h.io/x https://pw@h", "https://h.io/x https://***@h");
        check("https://u:p://w@h", "https://***@h");
    }

    #[test]
    fn only_a_whole_digest_of_an_image_is_no_host() {
        for (algorithm, length) in [("sha256", 64), ("sha512", 128)] {
            let digest = |length: usize| format!("{algorithm}:{}", "0a".repeat(length / 2));
            let image = format!("python:3.12@{}", digest(length));
            check(&image, &image);
            check(&format!("{{image: {image}}}"), &format!("{{image: {image}}}"));
            check(&format!("u:pw@h.io/{image}"), &format!("***@h.io/{image}"));
            let short = digest(length - 2);
            check(&format!("u:pw@{short}"), &format!("***@{short}"));
            let (long, port) = (format!("{}f/x", digest(length)), format!("{algorithm}:5000/x y"));
            check(&format!("u:pw@{long}"), &format!("***@{long}"));
            check(&format!("git://u:pw@{port}"), &format!("git://***@{port}"));
            let whole = digest(length);
            check(&format!("https://pw@{whole}"), &format!("https://***@{whole}"));
        }
    }

    #[test]
    fn queries_are_hidden() {
        check("`https://h.io/x?access_token=pw`, why?", "`https://h.io/x?***`, why?");
        check("h.io/x?a=b&sig=pw c=d", "h.io/x?*** c=d");
        check("u:pw@h.io/x?a=b?c", "***@h.io/x?***");
        check("https://h.io/x#token=pw https://h.io/x;t=pw", "https://h.io/x#*** https://h.io/x;***");
        check("s4://b/x?pw https://h.io/x#part", "s4://b/x?*** https://h.io/x#part");
        check("what? a=b", "what? a=b");
    }
}
