//! Submodules and Git LFS: what comes with a commit, and what is said of what does not.
use std::fs;
use std::path::{Path, PathBuf};

use vessl_core::plan::GitParts;
use vessl_core::record::Login;
use vessl_data::git::Imported;

use crate::git_bed::{Ask, Bed, files_with, git_in, names};
use crate::web::{Mode, Web};

/// `reader:s3cretw0rd`.
const LOGIN: &str = "cmVhZGVyOnMzY3JldHcwcmQ=";
const NONE: GitParts = GitParts { submodules: false, lfs: false };

fn login() -> Login {
    Login { username: "reader".to_owned(), password: "s3cretw0rd".into(), ..Login::default() }
}

/// Another repository beside `repo` with two commits; the id of the last.
fn another(bed: &Bed, name: &str) -> String {
    let dir = bed.path(name);
    fs::create_dir(&dir).unwrap();
    git_in(&dir, &["init", "-q", "-b", "main", "."], "");
    for n in ["one", "two"] {
        fs::write(dir.join("file"), format!("{name} {n}\n")).unwrap();
        git_in(&dir, &["add", "."], "");
        git_in(&dir, &["commit", "-q", "-m", n], "");
    }
    git_in(&dir, &["rev-parse", "HEAD"], "")
}

/// Makes `path` of the repository in `dir` a submodule, without asking git whether it likes the address.
fn link(dir: &Path, path: &str, commit: &str, url: &str) {
    let key = |key: &str| format!("submodule.the {path}.{key}");
    git_in(dir, &["config", "--file", ".gitmodules", &key("path"), path], "");
    git_in(dir, &["config", "--file", ".gitmodules", &key("url"), url], "");
    git_in(dir, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")], "");
    git_in(dir, &["add", ".gitmodules"], "");
    git_in(dir, &["commit", "-q", "-m", path], "");
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn submodules_come_with_theirs_one_commit_deep() {
    let bed = Bed::new();
    let deep = another(&bed, "deep");
    another(&bed, "lib");
    link(&bed.path("lib"), "third party/deep", &deep, "../deep");
    let lib = git_in(&bed.path("lib"), &["rev-parse", "HEAD"], "");
    link(&bed.path("repo"), "src/lib", &lib, "../lib");
    let web = Web::start(Mode::Open(bed.path("")));
    for (n, url) in [web.url(), bed.url()].into_iter().enumerate() {
        let dest = bed.dest(&format!("dest{n}"));
        let imported = Ask::of(&url).run(&dest).unwrap();
        assert_eq!(imported.missing, [""; 0]);
        let (sub, inner) = (dest.join("src/lib"), dest.join("src/lib/third party/deep"));
        assert_eq!(
            (read(sub.join("file")), read(inner.join("file"))),
            ("lib two\n".into(), "deep two\n".into())
        );
        for (dir, commit) in [(&sub, &lib), (&inner, &deep)] {
            assert_eq!(git_in(dir, &["rev-parse", "HEAD"], ""), *commit);
            assert_eq!(git_in(dir, &["rev-list", "--count", "HEAD"], ""), "1");
        }
        assert_eq!(git_in(&dest, &["status", "--porcelain"], ""), "");
        // README, src/main.py, .gitmodules; file and .gitmodules; file.
        assert_eq!(imported.files, 6);
        let bare = bed.dest(&format!("bare{n}"));
        let imported = Ask { parts: NONE, ..Ask::of(&url) }.run(&bare).unwrap();
        assert_eq!((imported.missing.len(), imported.files), (0, 3));
        assert_eq!(names(&bare.join("src/lib")), [""; 0]);
    }
}

#[test]
fn what_is_checked_out_beside_its_repository_is_taken_from_there() {
    let bed = Bed::new();
    another(&bed, "lib");
    let lib = bed.path("lib");
    let add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add"];
    bed.git(&[&add[..], &[lib.to_str().unwrap(), "lib"]].concat());
    bed.git(&["commit", "-q", "-m", "lib"]);
    let dest = bed.dest("dest");
    assert_eq!(bed.ask(None).run(&dest).unwrap().missing, [""; 0]);
    assert_eq!(read(dest.join("lib/file")), "lib two\n");
    // What is not there would come from where `.gitmodules` says, which is no path of this machine.
    bed.git(&["submodule", "--quiet", "deinit", "--force", "lib"]);
    let imported = bed.ask(None).run(&bed.dest("other")).unwrap();
    let [missing] = &imported.missing[..] else { panic!("{imported:?}") };
    let expected = format!("the submodule `lib` is not here: `{}` cannot be imported: ", lib.display());
    assert!(missing.starts_with(&expected), "{missing}");
    assert!(missing.ends_with("; import it by itself, or write `submodules: false`"), "{missing}");
}

#[test]
fn a_login_stays_on_its_host() {
    let bed = Bed::new();
    let lib = another(&bed, "lib");
    let other = Web::start(Mode::Login(bed.path(""), LOGIN));
    link(&bed.path("repo"), "near", &lib, "../lib");
    link(&bed.path("repo"), "far", &lib, &format!("http://{}/lib", other.address()));
    let web = Web::start(Mode::Login(bed.path(""), LOGIN));
    let dest = bed.dest("dest");
    let imported = Ask { login: Some(login()), ..Ask::of(web.url()) }.run(&dest).unwrap();
    assert_eq!(read(dest.join("near/file")), "lib two\n");
    assert_eq!(other.logins(), [""; 0]);
    let [missing] = &imported.missing[..] else { panic!("{imported:?}") };
    assert!(
        missing.starts_with("the submodule `far` is not here: ") && missing.contains("wants a login"),
        "{missing}"
    );
    assert_eq!(files_with(&dest, "s3cretw0rd"), Vec::<PathBuf>::new());
}

#[test]
fn what_gitmodules_may_not_say() {
    let bed = Bed::new();
    let lib = another(&bed, "lib");
    let pwned = bed.path("pwned");
    let program = format!("--upload-pack=touch {}", pwned.display());
    let file = format!("file://{}", bed.path("lib").display());
    let plain = bed.path("lib").display().to_string();
    let run = format!("ext::sh -c 'touch {}'", pwned.display());
    let urls = [&program, &file, &plain, &run, "../../lib", "./.git", "../x\u{1b}[31m", "https://u:p@host/x"];
    for (n, url) in urls.into_iter().enumerate() {
        link(&bed.path("repo"), &format!("s{n}"), &lib, url);
    }
    bed.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{lib},nowhere")]);
    bed.git(&["commit", "-q", "-m", "nowhere"]);
    let web = Web::start(Mode::Open(bed.path("")));
    for (n, url) in [bed.url(), web.url()].into_iter().enumerate() {
        let dest = bed.dest(&format!("dest{n}"));
        let imported = Ask::of(&url).run(&dest).unwrap();
        assert_eq!(imported.missing.len(), urls.len() + 1, "{imported:#?}");
        assert!(imported.missing.iter().all(|text| !text.contains(['\u{1b}', '\n'])), "{imported:#?}");
        assert!(!imported.missing.iter().any(|text| text.contains("u:p@")), "{imported:#?}");
        assert!(imported.missing.iter().any(|text| text.contains("`.gitmodules` has no address of it")));
        for n in 0..urls.len() {
            assert_eq!(names(&dest.join(format!("s{n}"))), [""; 0]);
        }
        assert!(!pwned.exists());
    }
    // Beside a repository of this machine there may be one that no run may see.
    link(&bed.path("repo"), "beside", &lib, "../lib");
    let hidden = Some(bed.path("lib").canonicalize().unwrap());
    let imported = Ask { hidden, ..bed.ask(None) }.run(&bed.dest("hidden")).unwrap();
    assert!(
        imported.missing.iter().any(|text| text.contains("`beside`") && text.contains("no run may see it"))
    );
}

#[test]
fn submodules_in_one_another_have_an_end() {
    let bed = Bed::new();
    for _ in 0..12 {
        let id = bed.id("main");
        bed.git(&["rm", "-q", "--cached", "--ignore-unmatch", "a"]);
        link(&bed.path("repo"), "a", &id, "../repo");
    }
    let web = Web::start(Mode::Open(bed.path("")));
    let dest = bed.dest("dest");
    let imported = Ask::of(web.url()).run(&dest).unwrap();
    let [missing] = &imported.missing[..] else { panic!("{imported:?}") };
    assert!(missing.contains("too many in one another"), "{missing}");
    assert!(dest.join("a/a/a/a/a/a/a/a/README").exists() && !dest.join("a/a/a/a/a/a/a/a/a/README").exists());
}

/// Makes `content` the content of `name` in the repository `repo`, and of the server if it has it.
fn large(bed: &Bed, name: &str, content: &str) -> PathBuf {
    if !bed.path("repo/.gitattributes").exists() {
        bed.commit(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    }
    let file = bed.path("content");
    fs::write(&file, content).unwrap();
    let sum = std::process::Command::new("sha256sum").arg(&file).output().unwrap();
    let digest = String::from_utf8(sum.stdout).unwrap()[..64].to_owned();
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {}\n", content.len());
    bed.commit(name, &pointer);
    let kept = bed.path("lfs").join(digest);
    fs::create_dir_all(bed.path("lfs")).unwrap();
    fs::copy(file, &kept).unwrap();
    kept
}

fn only(imported: &Imported) -> &str {
    let [missing] = &imported.missing[..] else { panic!("{imported:?}") };
    missing
}

#[test]
fn the_content_of_lfs_comes_with_a_login_or_is_named() {
    let bed = Bed::new();
    let content = "weights ".repeat(1000);
    let kept = large(&bed, "model.bin", &content);
    let web = Web::start(Mode::Login(bed.path(""), LOGIN));
    web.watch_for("s3cretw0rd");
    let dest = bed.dest("dest");
    let ask = || Ask { login: Some(login()), ..Ask::of(web.url()) };
    let imported = ask().run(&dest).unwrap();
    assert_eq!(imported.missing, [""; 0]);
    assert_eq!(read(dest.join("model.bin")), content);
    assert!(imported.bytes > content.len() as u64);
    assert!(!dest.join(".git/lfs").exists(), "the content is there once");
    assert_eq!(web.leaks(), [""; 0]);
    assert_eq!(files_with(&dest, "s3cretw0rd"), Vec::<PathBuf>::new());
    let dest = bed.dest("pointers");
    let imported = Ask { parts: NONE, ..ask() }.run(&dest).unwrap();
    assert_eq!((imported.missing.len(), read(dest.join("model.bin")).lines().count()), (0, 3));
    fs::remove_file(kept).unwrap();
    let imported = ask().run(&bed.dest("gone")).unwrap();
    let said = only(&imported);
    assert!(
        said.starts_with("the content of `model.bin` is not here, only its pointer of Git LFS: "),
        "{said}"
    );
    assert!(said.ends_with("; or write `lfs: false`"), "{said}");
}

#[test]
fn lfsconfig_sends_no_login_elsewhere_and_names_no_path() {
    let bed = Bed::new();
    large(&bed, "model.bin", &"weights ".repeat(1000));
    let other = Web::start(Mode::Login(bed.path(""), LOGIN));
    let web = Web::start(Mode::Login(bed.path(""), LOGIN));
    bed.commit(".lfsconfig", &format!("[lfs]\n\turl = http://{}/repo.git/info/lfs\n", other.address()));
    let imported = Ask { login: Some(login()), ..Ask::of(web.url()) }.run(&bed.dest("dest")).unwrap();
    assert!(only(&imported).contains("`model.bin`"), "{imported:?}");
    assert_eq!(other.logins(), [""; 0]);
    bed.commit(".lfsconfig", &format!("[remote \"origin\"]\n\tlfsurl = {}\n", bed.url()));
    let imported = Ask { login: Some(login()), ..Ask::of(web.url()) }.run(&bed.dest("file")).unwrap();
    assert!(only(&imported).contains("its `.lfsconfig` names a server that cannot be used"), "{imported:?}");
    // An open server elsewhere is fine.
    let open = Web::start(Mode::Open(bed.path("")));
    bed.commit(".lfsconfig", &format!("[lfs]\n\turl = http://{}/repo.git/info/lfs\n", open.address()));
    let imported = Ask { login: Some(login()), ..Ask::of(web.url()) }.run(&bed.dest("open")).unwrap();
    assert_eq!((imported.missing.len(), open.logins().len()), (0, 0));
}

#[test]
fn without_git_lfs_it_is_said_how_to_get_it() {
    let bed = Bed::new();
    large(&bed, "model.bin", &"weights ".repeat(1000));
    large(&bed, "more.bin", "more");
    let tools = bed.dest("tools");
    for tool in ["git", "sh", "cat"] {
        let path = std::env::var_os("PATH").unwrap();
        let found =
            std::env::split_paths(&path).map(|dir| dir.join(tool)).find(|path| path.exists()).unwrap();
        std::os::unix::fs::symlink(found, tools.join(tool)).unwrap();
    }
    let prepare = |command: &mut std::process::Command| {
        command.env("PATH", &tools);
    };
    let web = Web::start(Mode::Open(bed.path("")));
    let imported = Ask { prepare: &prepare, ..Ask::of(web.url()) }.run(&bed.dest("dest")).unwrap();
    let expected = "the content of `model.bin` and 1 more is not here, only its pointer of Git LFS: `git-lfs` is not \
                    installed on this machine: install it (`apt install git-lfs`); or write `lfs: false`";
    assert_eq!(only(&imported), expected);
}

#[test]
fn the_content_of_a_repository_of_this_machine_comes_from_it() {
    let bed = Bed::new();
    bed.git(&["lfs", "install", "--local"]);
    bed.git(&["lfs", "track", "*.bin"]);
    let content = "weights ".repeat(1000);
    bed.commit("model.bin", &content);
    bed.commit(".gitattributes", &read(bed.path("repo/.gitattributes")));
    assert!(bed.git(&["cat-file", "blob", "main:model.bin"]).starts_with("version https://git-lfs"));
    let dest = bed.dest("dest");
    assert_eq!(bed.ask(None).run(&dest).unwrap().missing, [""; 0]);
    assert_eq!(read(dest.join("model.bin")), content);
}
