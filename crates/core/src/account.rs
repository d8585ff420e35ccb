//! A user of an image as a person names it, resolved by the image's own `/etc/passwd` and `/etc/group`. Text in, numbers out.

/// Who a program of a container runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory, `/` if the image does not say.
    pub home: String,
}

impl User {
    /// Who owns what is made for this user; `None` for root, whose everything is.
    pub fn owner(&self) -> Option<(u32, u32)> {
        (self.uid != 0).then_some((self.uid, self.gid))
    }
}

/// Why there is no such user.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// The name is not in the image.
    #[error("there is no user `{0}` in the image: its `/etc/passwd` does not have it")]
    User(String),
    /// The group is not in the image.
    #[error("there is no group `{0}` in the image: its `/etc/group` does not have it")]
    Group(String),
}

/// Resolves `user[:group]`, names or numbers; an empty text is root.
pub fn resolve(text: &str, passwd: &str, group: &str) -> Result<User, UserError> {
    let (name, group_name) = text.split_once(':').unwrap_or((text, ""));
    let name = if name.is_empty() { "0" } else { name };
    let entry = passwd.lines().filter_map(Entry::parse).find(|entry| entry.is(name));
    let mut user = match (entry, id(name)) {
        (Some(entry), _) => User {
            uid: entry.uid,
            gid: entry.gid,
            groups: groups_of(entry.name, group),
            home: entry.home.to_owned(),
        },
        (None, Some(uid)) => User { uid, gid: 0, groups: Vec::new(), home: String::new() },
        (None, None) if name == "root" => User { uid: 0, gid: 0, groups: Vec::new(), home: String::new() },
        (None, None) => return Err(UserError::User(name.to_owned())),
    };
    if !group_name.is_empty() {
        user.gid = gid_of(group_name, group).ok_or_else(|| UserError::Group(group_name.to_owned()))?;
        user.groups.clear();
    }
    if user.home.is_empty() {
        "/".clone_into(&mut user.home);
    }
    Ok(user)
}

/// Every user's number and home.
pub fn homes(passwd: &str) -> impl Iterator<Item = (u32, &str)> {
    passwd.lines().filter_map(Entry::parse).map(|entry| (entry.uid, entry.home))
}

/// A user or group id. The highest number is none: system calls read it as "leave as it is".
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Entry<'a> {
    /// A line of passwd(5).
    fn parse(line: &'a str) -> Option<Self> {
        let fields: Vec<&str> = line.split(':').collect();
        Some(Self {
            name: fields.first()?,
            uid: id(fields.get(2)?)?,
            gid: id(fields.get(3)?)?,
            home: fields.get(5).copied().unwrap_or_default(),
        })
    }

    fn is(&self, name: &str) -> bool {
        self.name == name || id(name) == Some(self.uid)
    }
}

/// A line of group(5): name, id, members.
fn group_lines(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = id(fields.nth(1)?)?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn groups_of(user: &str, group: &str) -> Vec<u32> {
    let has = |members: &str| members.split(',').any(|member| member.trim() == user);
    group_lines(group).filter(|(_, _, members)| has(members)).map(|(_, gid, _)| gid).collect()
}

fn gid_of(name: &str, group: &str) -> Option<u32> {
    let found = group_lines(group).find(|(known, gid, _)| *known == name || id(name) == Some(*gid));
    found.map(|(_, gid, _)| gid).or_else(|| id(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken line\nml:x:1000:1001:,,,:/home/ml:/bin/bash\n";
    const GROUP: &str = "root:x:0:\nvideo:x:44:ml,other\nml:x:1001:\nrender:x:105:other, ml\n";

    fn check(text: &str, expected: Result<(u32, u32, &[u32], &str), UserError>) {
        let expected = expected.map(|(uid, gid, groups, home)| User {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        });
        assert_eq!(resolve(text, PASSWD, GROUP), expected, "{text:?}");
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        check("", Ok((0, 0, &[], "/root")));
        check("root", Ok((0, 0, &[], "/root")));
        check("ml", Ok((1000, 1001, &[44, 105], "/home/ml")));
        check("1000", Ok((1000, 1001, &[44, 105], "/home/ml")));
        check("4711", Ok((4711, 0, &[], "/")));
        check("4711:8", Ok((4711, 8, &[], "/")));
        check("ml:video", Ok((1000, 44, &[], "/home/ml")));
        check("ml:0", Ok((1000, 0, &[], "/home/ml")));
        check(":video", Ok((0, 44, &[], "/root")));
        check("nobody", Err(UserError::User("nobody".to_owned())));
        check("ml:none", Err(UserError::Group("none".to_owned())));
    }

    #[test]
    fn an_image_without_the_files_has_numbers_and_root() {
        let root = User { uid: 0, gid: 0, groups: Vec::new(), home: "/".to_owned() };
        assert_eq!(resolve("", "", ""), Ok(root.clone()));
        assert_eq!(resolve("root", "", ""), Ok(root));
        assert_eq!(resolve("me", "", ""), Err(UserError::User("me".to_owned())));
    }
}
