//! Token ids equal those of Hugging Face's tokenizers, from GGUF metadata and from Hugging Face files alike.

use std::path::Path;

use sglhost_tests::model::default_gguf;
use sglhost_text::{Segment, SegmentKind};

use crate::{golden::smollm2, unquantized};

fn check(origin: &str, path: &Path) {
    let tokenizer = sglhost_model::tokenizer(path).unwrap_or_else(|error| panic!("{error}"));
    let mut checked = 0;
    for case in &smollm2().tokenizer {
        let markup = Segment { text: case.text.clone(), kind: SegmentKind::Markup };
        assert_eq!(tokenizer.encode(&[markup]), case.markup, "{origin}, markup: {:?}", case.text);
        assert_eq!(tokenizer.encode_plain(&case.text), case.plain, "{origin}, plain: {:?}", case.text);
        assert_eq!(tokenizer.decode(&case.markup), case.text, "{origin}");
        checked += 1;
    }
    assert!(checked > 50, "{checked} texts");
}

#[test]
fn from_gguf_metadata() {
    check("GGUF", &default_gguf());
}

#[test]
fn from_hugging_face_files() {
    check("Hugging Face folder", unquantized::folder());
}
