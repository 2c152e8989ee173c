//! Systems under test, seen as commands to start and questions to ask.
//! What is done to their processes is the cluster's business.

pub mod whitewater;
