//! Whatever the guide says is shown by a test, which it names.

use std::{collections::BTreeMap, fs, path::Path};

const PAGE: &str = include_str!("../../src/guide/composition.md");

/// Paragraphs, items of lists and rows of tables, without what is code, the heads of tables, and the notes.
fn statements() -> Vec<String> {
    let mut statements = vec![String::new()];
    let mut is_code = false;
    for line in PAGE.lines().take_while(|line| !line.starts_with("[^")) {
        is_code ^= line.starts_with("```");
        let is_start = line.is_empty() || line.starts_with("* ") || line.starts_with("| ");
        if is_start || is_code {
            statements.push(String::new());
        }
        let says_nothing =
            is_code || ["#", "```", "|---", "| middleware |", "| what |"].iter().any(|start| line.starts_with(start));
        if !says_nothing {
            statements.last_mut().expect("there is one").push_str(line);
        }
    }
    statements.retain(|statement| !statement.is_empty());
    statements
}

/// The notes, each with the tests that it names.
fn notes() -> BTreeMap<String, Vec<String>> {
    let start = PAGE.find("\n[^").expect("the page has notes");
    let mut notes = BTreeMap::new();
    for note in PAGE[start..].split("\n[^").skip(1) {
        let (name, tests) = note.split_once("]:").expect("a note has a name");
        let tests: Vec<_> = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(!tests.is_empty(), "the note {name} names no test");
        assert!(notes.insert(name.to_owned(), tests).is_none(), "there are two notes {name}");
    }
    notes
}

/// The notes that a text refers to.
fn references(text: &str) -> impl Iterator<Item = &str> {
    text.split("[^").skip(1).map(|rest| rest.split_once(']').expect("a reference ends").0)
}

#[test]
fn every_statement_of_the_page_has_a_note() {
    // What the page is about, where to look, and what only leads to a list.
    let says_nothing = |text: &str| {
        ["Which middleware", "`cargo run"].iter().any(|start| text.starts_with(start)) || text.ends_with(':')
    };
    for statement in statements() {
        assert!(references(&statement).count() > 0 || says_nothing(&statement), "{statement}");
    }
}

#[test]
fn every_note_is_referred_to_and_every_reference_has_its_note() {
    let mut referred: Vec<_> =
        statements().iter().flat_map(|it| references(it).map(str::to_owned).collect::<Vec<_>>()).collect();
    referred.sort();
    referred.dedup();
    assert!(notes().keys().eq(referred.iter()), "{:?} is not {referred:?}", notes().keys());
}

#[test]
fn every_test_that_the_page_names_exists() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for name in notes().into_values().flatten() {
        let (file, test) = name.split_once("::").expect("a file and a test in it");
        let places = [format!("composition/{file}.rs"), format!("{file}.rs")];
        let text = places.iter().find_map(|place| fs::read_to_string(tests.join(place)).ok());
        let text = text.unwrap_or_else(|| panic!("{name}: there is no such file"));
        assert!(text.contains(&format!("fn {test}()")), "{name}: there is no such test");
    }
}
