//! Datagrams: the frame that every one of them has, the bytes of Raft messages inside it, and how what is larger travels.
//! Sockets are the server's; what a message means is Raft's.

pub mod frame;
pub mod message_codec;
pub mod object;
pub mod pull;
