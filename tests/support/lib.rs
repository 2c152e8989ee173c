//! Placeholder until the first end-to-end test: builds the plain binaries once.
