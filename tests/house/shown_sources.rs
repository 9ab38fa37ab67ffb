//! What a page shows of a source is the source: after a line `<!-- PATH -->` comes a block of code that holds the file.

use std::fs;
use std::path::Path;

/// Pages that show whole sources.
const PAGES: [&str; 1] = ["guest-sdk/README.md"];
/// Where it is set, pages are written anew.
const UPDATE: &str = "SGLHOST_UPDATE_PAGES";

#[test]
fn pages_show_the_sources_that_are_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for page in PAGES {
        let text = fs::read_to_string(root.join(page)).unwrap();
        let (written, shown) = with_sources(&text, &root);
        assert!(shown > 0, "{page} shows nothing");
        if std::env::var_os(UPDATE).is_some() {
            fs::write(root.join(page), written).unwrap();
            continue;
        }
        for (is, should) in text.lines().zip(written.lines()) {
            assert_eq!(is, should, "{page}: run this test with {UPDATE}=1, which writes the sources into it");
        }
        assert_eq!(
            text.len(),
            written.len(),
            "{page}: run this test with {UPDATE}=1, which writes the sources into it"
        );
    }
}

/// The page with the sources as they are, and how many there are.
fn with_sources(page: &str, root: &Path) -> (String, usize) {
    let (mut written, mut shown) = (String::new(), 0);
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        written += line;
        written.push('\n');
        let Some(path) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->")) else { continue };
        let source = fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let opening = lines.next().unwrap();
        assert!(opening.starts_with("```"), "a block of code comes after {line}");
        lines.find(|line| *line == "```").unwrap();
        written += &format!("{opening}\n{}\n```\n", source.trim_end());
        shown += 1;
    }
    (written, shown)
}

#[test]
fn a_changed_source_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.py"), "new\nlines\n").unwrap();
    let (written, shown) = with_sources("A\n<!-- a.py -->\n```python\nold\n```\nB\n", folder.path());
    assert_eq!((written.as_str(), shown), ("A\n<!-- a.py -->\n```python\nnew\nlines\n```\nB\n", 1));
}
