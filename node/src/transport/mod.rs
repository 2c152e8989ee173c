//! Datagrams: the frame that every one of them has, the bytes of Raft messages inside it, how what is larger travels, and the
//! socket that they go through. When they are sent and received is the server's business; what a message means is Raft's.

pub mod assembly;
pub mod frame;
pub mod key;
pub mod message_codec;
pub mod object;
pub mod pull;
pub mod udp;
