//! The accuser.
