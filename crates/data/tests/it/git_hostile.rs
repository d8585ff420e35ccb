//! Repositories and targets that want more than their directory.
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::git_bed::{Bed, names};

/// A commit whose tree is written byte by byte, past all checks of git.
fn commit_raw(bed: &Bed, entries: &[(&str, &str, String)]) {
    let mut tree = Vec::new();
    for (mode, name, id) in entries {
        tree.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        tree.extend((0..40).step_by(2).map(|n| u8::from_str_radix(&id[n..n + 2], 16).unwrap()));
    }
    let file = bed.path("tree");
    fs::write(&file, tree).unwrap();
    let tree = bed.git(&["hash-object", "-t", "tree", "-w", "--literally", file.to_str().unwrap()]);
    let commit = bed.git(&["commit-tree", "-m", "evil", &tree]);
    bed.git(&["update-ref", "refs/heads/main", &commit]);
}

fn blob(bed: &Bed, text: &str) -> String {
    bed.git_with(&["hash-object", "-w", "--stdin"], text)
}

/// A directory beside the target that must stay as it is.
fn outside(bed: &Bed) -> std::path::PathBuf {
    let outside = bed.dest("outside");
    fs::write(outside.join("file"), "untouched").unwrap();
    outside
}

fn assert_untouched(bed: &Bed) {
    let outside = bed.path("outside");
    assert_eq!(names(&outside), ["file"]);
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "untouched");
    assert_eq!(names(&bed.path("")).iter().filter(|n| n.starts_with("pwned")).count(), 0);
}

#[test]
fn trees_with_paths_that_lead_out() {
    for (n, path) in
        ["..", ".git", "../pwned", "/pwned", ".GIT", "git~1", "sub/../../pwned"].iter().enumerate()
    {
        let bed = Bed::new();
        outside(&bed);
        let hook = blob(&bed, "#!/bin/sh\ntouch ../pwned\n");
        let inner = bed.git_with(&["mktree"], &format!("100755 blob {hook}\tpost-checkout\n"));
        let (mode, id) = if n < 2 { ("40000", inner) } else { ("100755", hook) };
        commit_raw(&bed, &[(mode, path, id)]);
        let dest = bed.dest("dest");
        let result = bed.ask(None).run(&dest);
        assert!(result.is_err(), "{path}: {result:?}");
        assert_untouched(&bed);
        assert_eq!(names(&dest).iter().filter(|n| n.contains("git")).count(), 0, "{path}");
    }
}

#[test]
fn a_link_and_a_file_behind_it() {
    let bed = Bed::new();
    let outside = outside(&bed);
    let link = blob(&bed, outside.to_str().unwrap());
    let file = blob(&bed, "evil");
    let inner = bed.git_with(&["mktree"], &format!("100644 blob {file}\tfile\n"));
    commit_raw(&bed, &[("120000", "a", link), ("40000", "a", inner)]);
    // Whether git takes or refuses such a tree, it does not write through the link.
    let _ = bed.ask(None).run(&bed.dest("dest"));
    assert_untouched(&bed);
}

#[test]
fn links_that_point_out_are_links_and_are_not_followed_later() {
    let bed = Bed::new();
    let outside = outside(&bed);
    symlink(&outside, bed.path("repo").join("way")).unwrap();
    symlink("/etc/passwd", bed.path("repo").join("passwd")).unwrap();
    bed.git(&["add", "way", "passwd"]);
    bed.git(&["commit", "-q", "-m", "links"]);
    let dest = bed.dest("dest");
    bed.ask(None).run(&dest).unwrap();
    assert_eq!(fs::read_link(dest.join("way")).unwrap(), outside);
    // The next commit has a directory of that name.
    bed.git(&["rm", "-q", "way"]);
    bed.commit("way/file", "evil");
    bed.ask(None).run(&dest).unwrap();
    assert_untouched(&bed);
    assert_eq!(fs::read_to_string(dest.join("way/file")).unwrap(), "evil");
}

#[test]
fn a_target_whose_links_lead_out() {
    let bed = Bed::new();
    let outside = outside(&bed);
    let dest = bed.dest("dest");
    symlink(&outside, dest.join("src")).unwrap();
    symlink(outside.join("file"), dest.join("README")).unwrap();
    symlink(&outside, dest.join(".git")).unwrap();
    bed.ask(None).run(&dest).unwrap();
    assert_untouched(&bed);
    assert_eq!(fs::read_to_string(dest.join("README")).unwrap(), "first\n");
    assert!(dest.join(".git").symlink_metadata().unwrap().is_dir());
    assert!(dest.join("src").symlink_metadata().unwrap().is_dir());
}

#[test]
fn a_repository_in_the_target_is_not_believed() {
    for file in [false, true] {
        let bed = Bed::new();
        outside(&bed);
        let dest = bed.dest("dest");
        let evil = if file { bed.dest("evil") } else { dest.clone() };
        bed.git(&["clone", "-q", ".", evil.join("x").to_str().unwrap()]);
        fs::rename(evil.join("x/.git"), evil.join(".git")).unwrap();
        let pwn = format!("touch {}", bed.path("pwned").display());
        let hook = evil.join(".git/hooks/post-checkout");
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        fs::write(&hook, format!("#!/bin/sh\n{pwn}\n")).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        let config = format!(
            "[core]\n\tfsmonitor = \"{pwn}\"\n\tsshCommand = \"{pwn}\"\n[filter \"x\"]\n\tsmudge = \"{pwn}; cat\"\n"
        );
        let mut all = fs::read_to_string(evil.join(".git/config")).unwrap();
        all.push_str(&config);
        fs::write(evil.join(".git/config"), all).unwrap();
        if file {
            fs::write(dest.join(".git"), format!("gitdir: {}\n", evil.join(".git").display())).unwrap();
        }
        bed.commit(".gitattributes", "* filter=x\n");
        bed.ask(None).run(&dest).unwrap();
        assert_untouched(&bed);
        assert!(!dest.join(".git/hooks/post-checkout").exists());
    }
}

#[test]
fn hostile_submodules_and_large_files_are_left_alone_and_named() {
    let bed = Bed::new();
    outside(&bed);
    let pwn = format!("touch {}", bed.path("pwned").display());
    let modules = format!("[submodule \"a\"]\n\tpath = a\n\turl = ext::sh -c '{pwn}'\n\tupdate = !{pwn}\n");
    bed.commit(".gitmodules", &modules);
    bed.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{},a", bed.id("v1"))]);
    bed.commit(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    bed.commit("model.bin", pointer);
    let dest = bed.dest("dest");
    let missing = bed.ask(None).run(&dest).unwrap().missing;
    let [content, submodule] = &missing[..] else { panic!("{missing:?}") };
    assert!(content.starts_with("the content of `model.bin` is not here, only its pointer"), "{content}");
    assert!(submodule.starts_with("the submodule `a` is not here: `ext::sh -c "), "{submodule}");
    assert_eq!(fs::read_to_string(dest.join("model.bin")).unwrap(), pointer);
    assert_eq!(names(&dest.join("a")), [""; 0]);
    assert_untouched(&bed);
}
