//! Directories by key: who makes them, who sees them, and what a crash leaves.
use super::*;

fn fill(staging: &Staging, key: Digest, lacks: Lacks) -> Staged {
    let made = |dir: &Dir| {
        dir.create_file(Path::new("a"), 0o644).map_err(DataError::os("write", "a"))?;
        Ok::<_, DataError>(Made { rest: b"rest".to_vec(), lacks, ..About::default().into() })
    };
    staging.entry(key, &Watch::NONE, made).unwrap()
}

#[test]
fn what_is_not_whole_is_for_its_maker_alone() {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::open(dir.path()).unwrap();
    let key = Digest::of(b"x");
    let part = fill(&staging, key, Lacks::Something);
    assert!(part.new && part.path.join("a").exists() && staging.get(key).unwrap().is_none());
    let whole = fill(&staging, key, Lacks::Nothing);
    assert!(whole.new && whole.path != part.path);
    let again = fill(&staging, key, Lacks::Nothing);
    assert!(!again.new && again.path == whole.path);
    assert_eq!(again.about().unwrap().1, b"rest");
    // The part goes once its maker does not need it any more, and nothing else.
    let is_its = part.path.clone();
    drop(part);
    staging.collect(&|_| false).unwrap();
    assert!(!is_its.exists() && whole.path.exists());
}

#[test]
fn whoever_wants_the_same_at_once_gets_what_one_makes() {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::open(dir.path()).unwrap();
    let made = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let count = |_: &Dir| {
                    made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    Ok::<_, DataError>(About::default().into())
                };
                staging.entry(Digest::of(b"same"), &Watch::NONE, count).unwrap();
            });
        }
    });
    assert_eq!(made.into_inner(), 1);
}

fn boot(dir: &Path, boot: &str) -> Staging {
    Staging::of_boot(dir, boot.to_owned()).unwrap()
}

#[test]
fn what_did_not_reach_the_disk_is_there_until_the_machine_starts_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, three) = (boot(dir.path(), "1"), boot(dir.path(), "2"), boot(dir.path(), "3"));
    let key = Digest::of(b"x");
    // Whoever made it is killed before it is on disk.
    drop(fill(&one, key, Lacks::Nothing));
    let again = fill(&one, key, Lacks::Nothing);
    assert!(!again.new && again.unsynced.is_some(), "the next one brings it to disk");
    drop(again);
    // As far as the disk had it.
    std::fs::remove_file(dir.path().join(key.to_string()).join("fs/a")).unwrap();
    assert!(two.get(key).unwrap().is_none() && two.list().unwrap().is_empty());
    let mut anew = fill(&two, key, Lacks::Nothing);
    assert!(anew.new && anew.path.join("a").exists());
    anew.take_unsynced().unwrap().settle().unwrap();
    drop(anew);
    let settled = three.get(key).unwrap().unwrap();
    assert!(settled.unsynced.is_none() && settled.path.join("a").exists());
    drop(settled);
    // What the first boot left goes as soon as nobody reads it, however much may be kept.
    assert_eq!(one.keys().unwrap().len(), 2);
    three.shrink(u64::MAX).unwrap();
    assert_eq!(three.keys().unwrap(), [key]);
}

#[test]
fn what_the_disk_did_not_take_is_made_anew_and_its_readers_keep_it() {
    let dir = tempfile::tempdir().unwrap();
    let staging = boot(dir.path(), "1");
    let key = Digest::of(b"x");
    let mut first = fill(&staging, key, Lacks::Nothing);
    let unsynced = first.take_unsynced().unwrap();
    let late = staging.get(key).unwrap().unwrap().take_unsynced().unwrap();
    let path = dir.path().join(key.to_string()).join(MARK);
    let mark = File::options().write(true).open(&path).unwrap();
    let failed = unsynced.conclude(&mark, Err(io::ErrorKind::StorageFull.into())).unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
    // One who hears of no failure does not make it good.
    late.settle().unwrap();
    assert!(path.exists() && staging.get(key).unwrap().is_none());
    let open = Dir::open(&first.path).unwrap();
    drop(unsynced);
    let second = fill(&staging, key, Lacks::Nothing);
    assert!(second.new);
    staging.shrink(u64::MAX).unwrap();
    open.file(Path::new("a")).unwrap();
    drop(first);
    staging.shrink(u64::MAX).unwrap();
    open.file(Path::new("a")).unwrap_err();
    assert!(second.path.join("a").exists());
}

/// Looks at a source whose version is always the same; whether it was there.
fn look(staging: &Staging) -> (Staged, bool) {
    let look = |dir: &Dir, before: Option<&Staged>| {
        if before.is_some() {
            return Ok(Looked::Same(true));
        }
        dir.create_file(Path::new("a"), 0o644).map_err(DataError::os("write", "a"))?;
        let (key, about) = (Digest::of(b"version"), About::default());
        Ok::<_, DataError>(Looked::New { key, about, rest: Vec::new(), result: false })
    };
    staging.current(Digest::of(b"source"), &Watch::NONE, look).unwrap()
}

#[test]
fn what_a_source_had_before_the_machine_went_down_is_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!look(&boot(dir.path(), "1")).1);
    let (again, was_there) = look(&boot(dir.path(), "1"));
    assert!(was_there && !again.new);
    drop(again);
    let two = boot(dir.path(), "2");
    let (mut anew, was_there) = look(&two);
    assert!(!was_there && anew.new && anew.path.join("a").exists());
    anew.take_unsynced().unwrap().settle().unwrap();
    drop(anew);
    assert!(look(&boot(dir.path(), "3")).1);
}

#[test]
fn a_mark_that_a_crash_left_empty_is_of_another_boot() {
    let dir = tempfile::tempdir().unwrap();
    let staging = boot(dir.path(), "1");
    let key = Digest::of(b"x");
    drop(fill(&staging, key, Lacks::Nothing));
    std::fs::write(dir.path().join(key.to_string()).join(MARK), "").unwrap();
    assert!(staging.get(key).unwrap().is_none());
    assert!(fill(&staging, key, Lacks::Nothing).new);
}
