//! Compares the tables of `node/README.md` with the code that they describe.
#![allow(clippy::unwrap_used, reason = "clippy.toml excuses tests, but not the functions that they share")]

use node::config::*;
use node::kv::command::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use node::kv::session::{SESSION_IDLE_MS_MAX, SESSION_REPLY_BYTES_MAX, SESSIONS_MAX};
use node::protocol::error::ErrorCode;
use node::raft::types::ProcessId;
use node::transport::frame::{DATAGRAM_BYTES_MAX, Frame, HEADER_BYTES, Kind};

/// The rows of the table after `<!-- name: … -->`, as cells, without its head.
fn table(name: &str) -> Vec<Vec<String>> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, after) = readme.split_once(&format!("<!-- {name}:")).unwrap_or_else(|| panic!("no table {name}"));
    let rows = after.lines().skip(1).take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn the_table_of_errors_is_that_of_the_protocol() {
    let yes = |flag: bool| (if flag { "yes" } else { "no" }).to_owned();
    let rows: Vec<Vec<String>> = ErrorCode::ALL
        .into_iter()
        .map(ErrorCode::row)
        .map(|row| {
            let name = format!("`{}`", row.name);
            vec![row.code.to_string(), name, yes(row.definite), yes(row.retry), row.meaning.to_owned()]
        })
        .collect();
    assert_eq!(table("errors"), rows);
}

#[test]
fn the_table_of_knobs_has_their_defaults() {
    let knobs = [
        ("--cluster", CLUSTER_DEFAULT.to_owned()),
        ("--key-file", "none".to_owned()),
        ("--data-dir", "data/nI".to_owned()),
        ("--listen", "own address of the list".to_owned()),
        ("--join", "off".to_owned()),
        ("--peer", "what the log says".to_owned()),
        ("--snapshot-entries", SNAPSHOT_ENTRIES.to_string()),
        ("--trailing-entries", TRAILING_ENTRIES.to_string()),
        ("--trace", "off".to_owned()),
        ("--http", "off".to_owned()),
        ("--config", "none".to_owned()),
        ("--log-level", "info".to_owned()),
        ("--log-format", "text".to_owned()),
        ("--election-timeout-ms-min", ELECTION_TIMEOUT_MS_MIN.to_string()),
        ("--election-timeout-ms-max", ELECTION_TIMEOUT_MS_MAX.to_string()),
        ("--heartbeat-interval-ms", HEARTBEAT_INTERVAL_MS.to_string()),
        ("--lease-reads", "off".to_owned()),
        ("--clock-drift-percent-max", CLOCK_DRIFT_PERCENT_MAX.to_string()),
        ("--unsynced-in-memory", "off".to_owned()),
        ("--clock-file", "none".to_owned()),
        ("INFLIGHT_MAX", INFLIGHT_MAX.to_string()),
        ("INFLIGHT_BYTES_MAX", INFLIGHT_BYTES_MAX.to_string()),
        ("UNCOMMITTED_MAX", UNCOMMITTED_MAX.to_string()),
        ("UNCOMMITTED_BYTES_MAX", UNCOMMITTED_BYTES_MAX.to_string()),
        ("REQUESTS_MAX", REQUESTS_MAX.to_string()),
        ("WAITERS_PER_WRITE_MAX", WAITERS_PER_WRITE_MAX.to_string()),
        ("REQUEST_TIMEOUT_MS", REQUEST_TIMEOUT_MS.to_string()),
        ("UNSYNCED_BYTES_MAX", UNSYNCED_BYTES_MAX.to_string()),
        ("GATED_MESSAGES_MAX", GATED_MESSAGES_MAX.to_string()),
        ("APPLY_PER_TURN_MAX", APPLY_PER_TURN_MAX.to_string()),
        ("SNAPSHOT_BYTES", SNAPSHOT_BYTES.to_string()),
        ("SESSIONS_MAX", SESSIONS_MAX.to_string()),
        ("SESSION_REPLY_BYTES_MAX", SESSION_REPLY_BYTES_MAX.to_string()),
        ("SESSION_IDLE_MS_MAX", SESSION_IDLE_MS_MAX.to_string()),
        ("HELD_APPENDS_MAX", HELD_APPENDS_MAX.to_string()),
        ("ENTRY_PULL_BYTES_MAX", ENTRY_PULL_BYTES_MAX.to_string()),
        ("REQUEST_PULLS_MAX", REQUEST_PULLS_MAX.to_string()),
        ("REQUEST_PULL_BYTES_MAX", REQUEST_PULL_BYTES_MAX.to_string()),
        ("RESPONSE_BYTES_HELD_MAX", RESPONSE_BYTES_HELD_MAX.to_string()),
        ("PULL_WINDOW", PULL_WINDOW.to_string()),
        ("CHUNKS_PER_TURN_MAX", CHUNKS_PER_TURN_MAX.to_string()),
        ("TRANSFER_IDLE_MS", TRANSFER_IDLE_MS.to_string()),
        ("LEAVE_WAIT_MS", LEAVE_WAIT_MS.to_string()),
        ("KEY_BYTES_MAX", KEY_BYTES_MAX.to_string()),
        ("VALUE_BYTES_MAX", VALUE_BYTES_MAX.to_string()),
        ("DATAGRAM_BYTES_MAX", DATAGRAM_BYTES_MAX.to_string()),
    ];
    let written: Vec<(String, String)> =
        table("knobs").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(written, knobs.map(|(name, default)| (format!("`{name}`"), default)));
}

/// Every flag of `node serve` is in the table, and the table has no other.
#[test]
fn the_table_of_knobs_has_every_flag() {
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_node")).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let flags = help.lines().filter_map(|line| line.trim().strip_prefix("--")?.split([' ', '<']).next());
    let mut flags: Vec<String> = flags.map(|flag| format!("`--{flag}`")).collect();
    flags.retain(|flag| flag != "`--planted`");
    let mut written: Vec<String> = table("knobs").into_iter().map(|row| row[0].clone()).collect();
    written.retain(|name| name.starts_with("`--"));
    flags.sort();
    written.sort();
    assert_eq!(flags, written);
}

/// The offsets in the README's table of the frame, against the bytes of a frame.
#[test]
fn the_frame_is_as_described() {
    let frame = Frame {
        kind: Kind::Request,
        cluster_id: 0x0808_0808_0808_0808,
        from: 0x1616_1616,
        to: 0x2020_2020,
        process: ProcessId { directory: 0x2424_2424_2424_2424, incarnation: 0x3232_3232_3232_3232 },
        term: 0x4040_4040_4040_4040,
        message_id: 0x4848_4848_4848_4848,
        payload: b"payload",
    };
    let bytes = frame.encode();
    assert_eq!((HEADER_BYTES, &bytes[..6]), (64, &b"WWtr\x02\x10"[..]));
    assert_eq!(
        bytes[8..56],
        [[8_u8; 8].as_slice(), &[0x16; 4], &[0x20; 4], &[0x24; 8], &[0x32; 8], &[0x40; 8], &[0x48; 8]]
            .concat()
    );
    assert_eq!(
        (&bytes[6..8], &bytes[56..60], &bytes[64..]),
        (&[0, 0][..], &[7, 0, 0, 0][..], &b"payload"[..])
    );
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..60]), &bytes[64..]);
    assert_eq!(bytes[60..64], checksum.to_le_bytes());
}
