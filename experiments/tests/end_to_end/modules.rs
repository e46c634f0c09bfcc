//! Dependencies between modules point one way.
//!
//! `cargo test -p trine-lab --test end_to_end modules -- --nocapture` prints the graph of each crate.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The modules at the root of a crate, and those that each of them names.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The crates' roots, and the cycles that there still are. None may be added; one that is mended is taken off.
const CRATES: [(&str, &[&[&str]]); 4] =
    [("src", &[]), ("client/src", &[]), ("client/src/load", &[]), ("experiments/src", &[])];

/// No module uses one that uses it, not even through others: what is below can be read, and tested, without what is above.
#[test]
fn modules_have_no_new_cycles() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (root, known) in CRATES {
        let graph = graph(&project.join(root));
        println!("{root}");
        for (module, used) in &graph {
            println!("  {module} -> {}", used.iter().map(String::as_str).collect::<Vec<_>>().join(" "));
        }
        let known: BTreeSet<Vec<String>> =
            known.iter().map(|cycle| cycle.iter().map(|name| (*name).to_owned()).collect()).collect();
        assert_eq!(cycles(&graph), known, "{root}: cycles that there are, and those that are known");
    }
}

/// A cycle is found however long it is, and what only leads into one is not in it.
#[test]
fn cycles_are_found() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry((*from).into()).or_default().insert((*to).into());
            graph.entry((*to).into()).or_default();
        }
        graph
    };
    assert!(cycles(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    let found =
        cycles(&graph(&[("top", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "low"), ("x", "y"), ("y", "x")]));
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(found, BTreeSet::from([words("a b c"), words("x y")]));
}

/// All forms of a path are seen; comments and tests are not.
#[test]
fn uses_are_found() {
    let text = "use crate::{a, b::{c, d}, e::f};\nfn x() { crate::g::h(); } // crate::not\nuse super::{i::j, k};\n\
                #[cfg(test)]\nmod tests {\n    use crate::not;\n}\n";
    let names = |text: &[&str]| text.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(uses(text, 1), names(&["a", "b", "e", "g", "i", "k"]));
    assert_eq!(uses("use super::a;\nuse super::super::b;\n", 2), names(&["b"]));
}

fn graph(root: &Path) -> Graph {
    let mut graph = Graph::new();
    visit(root, &mut Vec::new(), &mut graph);
    let modules: BTreeSet<_> = graph.keys().cloned().collect();
    for (module, used) in &mut graph {
        used.retain(|name| name != module && modules.contains(name));
    }
    graph
}

/// Adds what the files of a folder use, which is at this path of modules.
fn visit(folder: &Path, path: &mut Vec<String>, graph: &mut Graph) {
    for entry in fs::read_dir(folder).expect("a folder of modules") {
        let file = entry.expect("an entry").path();
        let stem = file.file_stem().expect("a name").to_string_lossy().into_owned();
        // What is compiled for tests alone may use anything. Programs have a folder, and a graph, of their own.
        if ["tests", "sim"].contains(&stem.as_str()) || (stem == "load" && file.is_dir()) {
            continue;
        }
        if file.is_dir() {
            path.push(stem);
            visit(&file, path, graph);
            path.pop();
        } else if file.extension().is_some_and(|extension| extension == "rs") {
            let is_root_of_folder = stem == "mod";
            let depth = path.len() + usize::from(!is_root_of_folder);
            let Some(module) = path.first().cloned().or_else(|| (stem != "lib" && stem != "main").then_some(stem))
            else {
                continue;
            };
            let text = fs::read_to_string(&file).expect("text");
            graph.entry(module).or_default().extend(uses(&text, depth));
        }
    }
}

/// Returns the modules at the crate's root that a file names which is `depth` modules below it.
fn uses(text: &str, depth: usize) -> BTreeSet<String> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        names(&code[at + "crate::".len()..], &mut found);
    }
    for (at, _) in code.match_indices("super::") {
        if code[..at].ends_with("super::") {
            continue;
        }
        let (mut rest, mut supers) = (&code[at..], 0);
        while let Some(more) = rest.strip_prefix("super::") {
            (rest, supers) = (more, supers + 1);
        }
        if supers == depth {
            names(rest, &mut found);
        }
    }
    found
}

/// Adds the first name of a path, or of each path of a group in braces.
fn names(text: &str, found: &mut BTreeSet<String>) {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect()
    };
    let Some(group) = text.strip_prefix('{') else {
        found.insert(name(text));
        return;
    };
    let (mut depth, mut start) = (1, 0);
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (char == ',' && depth == 1) {
            found.insert(name(&group[start..at]));
            start = at + 1;
        }
        if depth == 0 {
            return;
        }
    }
}

/// Returns the sets of modules that reach each other, each in order.
fn cycles(graph: &Graph) -> BTreeSet<Vec<String>> {
    let reach: BTreeMap<_, _> = graph.keys().map(|module| (module, reached(graph, module))).collect();
    let group = |module: &String| -> Vec<String> {
        graph.keys().filter(|other| reach[module].contains(*other) && reach[other].contains(module)).cloned().collect()
    };
    graph.keys().map(group).filter(|group| !group.is_empty()).collect()
}

/// Returns what a module uses, itself or through others.
fn reached(graph: &Graph, module: &str) -> BTreeSet<String> {
    let (mut found, mut left) = (BTreeSet::new(), vec![module.to_owned()]);
    while let Some(next) = left.pop() {
        for used in graph.get(&next).into_iter().flatten() {
            if found.insert(used.clone()) {
                left.push(used.clone());
            }
        }
    }
    found
}
