//! Datagrams: the frame that every one of them has, and the bytes of Raft messages inside it.
//! Sockets are the server's; what a message means is Raft's.

pub mod frame;
pub mod message_codec;
