//! Which users a container can have.
use vessl_core::account::User;

/// Whether the user namespace of this process has the ids of a user; root's has all.
pub(crate) fn is_mapped(user: &User) -> bool {
    let has = |file: &str, id| std::fs::read_to_string(file).is_ok_and(|map| maps(&map, id));
    has("/proc/self/uid_map", user.uid) && has("/proc/self/gid_map", user.gid)
}

/// Whether an id is in the first column of a map of ids (`user_namespaces(7)`).
fn maps(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u64>().unwrap_or_default());
        let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
        matches!((first, count), (Some(first), Some(count)) if (first..first + count).contains(&id.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_mapped_or_not() {
        let root = "         0          0 4294967295\n";
        assert!(maps(root, 0) && maps(root, 4_294_967_294));
        let ordinary = "0 1000 1\n1 100000 65536\n";
        assert!(maps(ordinary, 0) && maps(ordinary, 65_536) && !maps(ordinary, 65_537));
        assert!(!maps("0 1000 1\n", 1) && !maps("", 0));
    }
}
