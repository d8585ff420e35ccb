//! What is read as an amount prints as text that reads back as the same amount.
#![no_main]
use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use vessl_core::units::{Cpu, Memory, Span};

fuzz_target!(|text: &str| {
    check::<Cpu>(text);
    check::<Memory>(text);
    check::<Span>(text);
});

fn check<T: FromStr<Err: Debug + Display> + Display + Debug + PartialEq>(text: &str) {
    match text.parse::<T>() {
        Ok(amount) => assert_eq!(amount.to_string().parse::<T>().expect("what is printed can be read"), amount),
        Err(error) => assert!(error.to_string().chars().count() < 300, "{error}"),
    }
}
