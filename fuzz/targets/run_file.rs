//! Any bytes are read as a run file, or refused with problems that have a place; what is accepted prints and reads back.
#![no_main]
use libfuzzer_sys::fuzz_target;
use vessl_core::spec::{self, ReadOptions, print, read};
use vessl_core::wire::Level;

fuzz_target!(|bytes: &[u8]| {
    let first = read(bytes, ReadOptions::default());
    assert!(first.problems.len() <= 201);
    let refused = first.problems.iter().any(|problem| problem.level == Level::Error);
    assert_eq!(first.spec.is_none(), refused, "a run or an error");
    for problem in &first.problems {
        assert!(problem.line >= 1 && problem.column >= 1, "{problem:?}");
        assert!(problem.hint.as_deref().is_some_and(|hint| !hint.is_empty()), "{problem:?}");
    }
    let mut again = first.problems.clone();
    again.iter_mut().for_each(|problem| problem.line = 0);
    spec::locate(bytes, &mut again);
    let Some(run) = first.spec else { return };
    let text = print(&run);
    let second = read(text.as_bytes(), ReadOptions::default());
    assert_eq!(second.spec.as_ref(), Some(&run), "{text}\n{:#?}", second.problems);
    assert_eq!(print(&run), text);
});
