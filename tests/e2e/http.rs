//! A node as a monitoring system sees it: its status and metrics over HTTP, its log as JSON.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::hand::Hand;
use tests::poll;
use tests::sandbox::Sandbox;

/// The head and the body of the answer, once somebody listens there.
fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = poll::until("the HTTP port of a node", || TcpStream::connect(address).ok());
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn get(address: SocketAddr, path: &str) -> (String, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n"))
}

#[test]
fn status_metrics_and_log_are_there_for_machines() {
    let sandbox = Sandbox::new();
    let mut hand = Hand::new(&sandbox, "http", 1);
    // TCP and UDP ports are apart: the node's own address serves for both.
    let address = hand.address(1);
    hand.start_with(1, &["--http", &address.to_string(), "--log-format", "json"]);
    hand.leader(&[1]);
    assert_eq!(hand.client(1, &["set", "k", "v"]).code, Some(0));
    let page = poll::until("the write in the metrics", || {
        let (head, page) = get(address, "/metrics");
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        page.lines().any(|line| line == "kv_keys 1").then_some(page)
    });
    assert!(page.lines().any(|line| line == "raft_is_leader 1"), "{page}");
    let syncs = page.lines().find_map(|line| line.strip_prefix("wal_fsync_duration_seconds_count "));
    assert!(syncs.is_some_and(|count| count.parse::<u64>().unwrap() >= 2), "{page}");
    let (head, body) = get(address, "/status");
    assert!(head.contains("Content-Type: application/json"), "{head}");
    let status: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status["role"].as_str(), status["keys"].as_u64()), (Some("leader"), Some(1)));
    assert!(get(address, "/").0.starts_with("HTTP/1.1 404"));
    assert!(ask(address, "nonsense\r\n\r\n").0.starts_with("HTTP/1.1 400"));
    hand.end(1, Signal::SIGTERM);
    let log = hand.log(1);
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told =
        |text: &str| lines.iter().any(|line| line["message"].as_str().is_some_and(|m| m.contains(text)));
    assert!(
        told("became leader") && told("set k v") && lines.iter().all(|line| line["node"] == "n1"),
        "{log}"
    );
}
