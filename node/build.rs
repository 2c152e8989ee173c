//! Computes `node::BUILD_ID`: a hash of everything that decides what the node does, so that a harness can refuse a stale node.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Adds one file's bytes to a 64-bit FNV-1a hash.
fn mix(hash: &mut u64, bytes: &[u8]) {
    for byte in bytes {
        *hash = (*hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
}

/// Every file below `directory`, sorted, so that the hash does not depend on the order of a directory listing.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    files(&root.join("src"), &mut paths);
    paths.push(root.join("../Cargo.lock"));
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for path in &paths {
        mix(&mut hash, path.file_name().map(|n| n.as_encoded_bytes()).unwrap_or_default());
        mix(&mut hash, &fs::read(path).unwrap_or_default());
    }
    println!("cargo::rustc-env=NODE_BUILD_ID={hash:016x}");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=../Cargo.lock");
}
