//! Laws of the canonical form.
use proptest::prelude::*;
use vessl_core::spec::{EnvValue, hide, print};

use crate::strategy::spec;
use crate::support::{accepted, read};

proptest! {
    #[test]
    fn reading_what_was_printed_gives_the_same_run(spec in spec()) {
        let text = print(&spec);
        let again = read(&text);
        prop_assert_eq!(again.spec.as_ref(), Some(&spec), "{}\n{:#?}", text, again.problems);
    }

    #[test]
    fn a_hidden_run_shows_no_literal_secret(mut spec in spec(), value in "[a-z]{20}") {
        spec.env.insert("TOKEN".to_owned(), EnvValue::Masked(value.as_str().into()));
        let before = spec.env.clone();
        let taken = hide(&mut spec);
        prop_assert!(!print(&spec).contains(&value));
        prop_assert!(taken.contains(&("TOKEN".to_owned(), value.as_str().into())));
        for (key, text) in &taken {
            prop_assert_eq!(before.get(key), Some(&EnvValue::Masked(text.clone())));
        }
        prop_assert_eq!(accepted(&print(&spec)), spec);
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let read = vessl_core::spec::read(&bytes, vessl_core::spec::ReadOptions::default());
        prop_assert!(read.spec.is_some() || !read.problems.is_empty());
    }

    #[test]
    fn any_lines_give_an_answer(text in "((name|image|run|env|import|- |  |\t|: |\\{|\\[|&a |\\*a|\"|'|\\||<<|\n){1,30})") {
        let read = read(&text);
        prop_assert!(read.spec.is_some() || !read.problems.is_empty());
        for problem in &read.problems {
            prop_assert!(problem.line >= 1 && problem.column >= 1);
        }
    }
}
