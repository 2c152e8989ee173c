//! Tidiness as ordinary tests: the layout, the layers, the words and the READMEs are what the architecture says.
//! Each rule is a function over text, shown to catch an offence before it is held against the workspace.
#![allow(clippy::unwrap_used, reason = "clippy.toml excuses tests, but not the functions that they share")]

mod commands;
mod dependencies;
mod layers;
mod layout;
mod words;
