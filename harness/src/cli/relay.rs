//! `harness relay`: what a node of Maelstrom runs behind. Started by the harness, not by people.
//! What it does is [`crate::system::maelstrom::relay`]'s business.

use std::net::SocketAddr;

use super::Failure;
use crate::system::maelstrom::relay::Relay;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The node
    node: u32,
    /// Where it listens, and what it takes for the addresses of the others, in the order of ids
    #[arg(required = true)]
    addresses: Vec<SocketAddr>,
    /// The program and its words
    #[arg(last = true, required = true)]
    program: Vec<String>,
}

pub(super) fn main(args: Args) -> Result<u8, Failure> {
    let mut words = args.program.into_iter();
    let program = words.next().unwrap_or_default().into();
    let relay = Relay { node: args.node, addresses: args.addresses, program, words: words.collect() };
    match relay.run()? {}
}
