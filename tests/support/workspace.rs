//! Where the workspace and its files are.
//! What the files must look like is the business of `tidy/`.

use std::path::{Path, PathBuf};

/// Directories of the root that are made by running things, and that git ignores.
pub const GENERATED: [&str; 3] = ["target", "runs", "data"];

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package stands in a workspace")
}

/// Every file of the workspace whose name ends with `suffix`, as a path below the root, sorted. What is generated or hidden is left out.
pub fn files(suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(root(), &mut found);
    found.retain(|path| path.to_string_lossy().ends_with(suffix));
    found.sort();
    found
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(directory).expect("a directory of the workspace can be listed");
    for entry in entries {
        let path = entry.expect("a directory of the workspace can be listed").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let generated = directory == root() && GENERATED.contains(&name.as_ref());
        if name.starts_with('.') || generated {
            continue;
        }
        if path.is_dir() {
            collect(&path, found);
        } else if let Ok(below) = path.strip_prefix(root()) {
            found.push(below.to_owned());
        }
    }
}

/// The text of a file below the root.
///
/// # Panics
/// When there is no such file, or it is not text.
pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
