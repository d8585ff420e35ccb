//! Limits of names, descriptions and tags: of runs, and of the organizations, projects, secrets and presets around them.

/// Longest name and longest tag, in characters.
const LONGEST_NAME: usize = 253;
/// Longest description, in bytes.
const LONGEST_DESCRIPTION: usize = 64 << 10;
/// Most tags of one run.
const MOST_TAGS: usize = 100;

/// What [`is_name`] wants, in words that follow "it must be".
pub const NAME_FORM: &str = "1-100 letters, digits, `-`, `_` or `.`, and start with a letter or digit";

/// Whether `name` can be that of an organization, a project, a secret or a credential.
pub fn is_name(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= 100 && name.chars().all(fine)
}

/// Whether `text` can be the name of a run; if not, why.
pub fn check_name(text: &str) -> Result<(), String> {
    word("name", text)
}

/// Whether `text` can be a description; if not, why.
pub fn check_description(text: &str) -> Result<(), String> {
    if text.len() > LONGEST_DESCRIPTION {
        return Err(format!("`description` has {} bytes; it may have {LONGEST_DESCRIPTION}", text.len()));
    }
    no_nul("description", text)
}

/// Whether these can be the tags of a run; if not, why.
pub fn check_tags(tags: &[String]) -> Result<(), String> {
    if tags.len() > MOST_TAGS {
        return Err(format!("`tags` has {} tags; there may be {MOST_TAGS}", tags.len()));
    }
    tags.iter().try_for_each(|tag| word("tag", tag))
}

fn word(what: &str, text: &str) -> Result<(), String> {
    match text.chars().count() {
        _ if text.chars().all(|c| c.is_whitespace() || c.is_control()) => Err(format!("`{what}` is blank")),
        length if length > LONGEST_NAME => {
            Err(format!("`{what}` has {length} characters; it may have {LONGEST_NAME}"))
        }
        _ => no_nul(what, text),
    }
}

fn no_nul(what: &str, text: &str) -> Result<(), String> {
    if text.contains('\0') { Err(format!("`{what}` contains a NUL character")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_descriptions_and_tags_have_limits() {
        let long = "ä".repeat(253);
        let tags = |count: usize, tag: &str| vec![tag.to_owned(); count];
        for fine in [
            check_name("n"),
            check_name(&long),
            check_description(""),
            check_description(&"x".repeat(65_536)),
        ] {
            assert_eq!(fine, Ok(()));
        }
        assert_eq!(check_tags(&tags(100, &long)), Ok(()));
        let check = |found: Result<(), String>, expected: &str| assert_eq!(found.unwrap_err(), expected);
        check(check_name(" \t"), "`name` is blank");
        check(check_name(&format!("{long}x")), "`name` has 254 characters; it may have 253");
        check(check_name("a\0"), "`name` contains a NUL character");
        check(check_description(&"x".repeat(65_537)), "`description` has 65537 bytes; it may have 65536");
        check(check_description("\0"), "`description` contains a NUL character");
        check(check_tags(&tags(101, "t")), "`tags` has 101 tags; there may be 100");
        check(check_tags(&tags(1, "")), "`tag` is blank");
        check(check_tags(&tags(1, "a\0b")), "`tag` contains a NUL character");
    }
}
