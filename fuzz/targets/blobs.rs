//! What describes stored bytes: indexes of packs, recipes of large files, manifests of trees. Any bytes are one or are refused, and
//! there is only one way to write one.
#![no_main]
use libfuzzer_sys::fuzz_target;
use vessl_data::blob::{LARGEST_PACK, index};
use vessl_data::chunks::Recipe;
use vessl_data::tree::Manifest;

fuzz_target!(|bytes: &[u8]| {
    if let Some(mut entries) = index::parse(bytes) {
        assert!(entries.iter().all(|entry| entry.end() <= LARGEST_PACK));
        assert_eq!(index::print(&mut entries), bytes);
    }
    if let Some(recipe) = Recipe::parse(bytes) {
        assert!(recipe.size() > 0);
        assert_eq!(recipe.text(), bytes);
    }
    if let Ok(manifest) = Manifest::parse(bytes) {
        assert_eq!(manifest.text(), bytes);
    }
});
