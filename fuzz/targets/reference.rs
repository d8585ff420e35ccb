//! What is read as an image reference prints as text that reads back as the same reference.
#![no_main]
use libfuzzer_sys::fuzz_target;
use vessl_core::reference::Reference;

fuzz_target!(|text: &str| {
    if let Ok(reference) = Reference::parse(text) {
        let printed = reference.to_string();
        assert_eq!(Reference::parse(&printed).as_ref(), Ok(&reference), "{printed}");
        assert_eq!(Reference::parse(&printed).map(|again| again.to_string()), Ok(printed));
    }
});
