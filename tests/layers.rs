//! Imports go one way, and `unsafe` stays where it is allowed (design: the two ways data takes).

use std::fs;
use std::path::{Path, PathBuf};

/// What each layer of `src` may import from the crate.
const LAYERS: [(&str, &[&str]); 15] = [
    ("error", &[]),
    ("kernels", &[]),
    ("pool", &["error"]),
    ("format", &["error"]),
    ("quant", &["error", "format"]),
    ("request", &["error", "format"]),
    ("ops", &["kernels", "request"]),
    ("network", &["error", "format", "ops"]),
    ("plan", &["error", "format", "network", "ops"]),
    ("exec", &["error", "format", "ops", "plan", "pool", "request"]),
    ("model", &["error", "exec", "format", "network", "ops", "plan", "pool", "request", "scorer", "tuning"]),
    ("tuning", &["error", "model", "ops", "plan"]),
    ("narrowing", &["error", "format", "model", "network", "plan", "quant", "tuning"]),
    ("scorer", &["error", "exec", "model", "pool", "request"]),
    ("capi", &["error", "exec", "format", "model", "ops", "plan", "pool", "request", "scorer"]),
];

/// Where `unsafe` may stand.
const UNSAFE: [&str; 3] = ["format/map.rs", "kernels/", "capi/"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every file of `src` by its path below it, with its text.
fn files() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&src, &mut paths);
    let name = |path: &Path| path.strip_prefix(&src).expect("below src").to_string_lossy().replace('\\', "/");
    paths.iter().map(|path| (name(path), fs::read_to_string(path).expect("a source"))).collect()
}

/// The first names after `crate::` in code: what a file imports.
fn imports(text: &str) -> Vec<&str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut imports = Vec::new();
    for line in code {
        for after in line.split("crate::").skip(1) {
            let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
            imports.push(&after[..end]);
        }
    }
    imports
}

#[test]
fn imports_go_one_way() {
    let mut seen = 0;
    for (file, text) in files() {
        let layer = file.split(['/', '.']).next().unwrap_or_default();
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            assert!(["lib", "bin"].contains(&layer), "src/{file} belongs to no layer");
            continue;
        };
        for import in imports(&text) {
            seen += 1;
            let is_type = import.starts_with(char::is_uppercase);
            assert!(is_type || import == layer || allowed.contains(&import), "src/{file} imports crate::{import}");
        }
    }
    assert!(seen > 50, "the check found only {seen} imports");
}

#[test]
fn unsafe_stays_where_it_is_allowed() {
    let mut allowed = 0;
    for (file, text) in files() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let count =
            code.filter(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe"));
        let count = count.count();
        if UNSAFE.iter().any(|place| file.starts_with(place)) {
            allowed += count;
        } else {
            assert_eq!(count, 0, "src/{file} has unsafe code");
        }
    }
    assert!(allowed > 0, "the check found no unsafe code at all");
}
