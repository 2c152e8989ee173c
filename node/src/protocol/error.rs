//! The one table of errors that a client may see: code, name, whether it is definite, what it means.
//! `definite` decides what a history records: only a definite error means "not applied, now or ever".

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorRow {
    /// Its number in datagrams.
    pub code: u8,
    /// Its name in output and histories.
    pub name: &'static str,
    /// Whether the *operation* can never take effect. A refusal by one node is not enough: the network may hold another
    /// copy of the same request. So only what every node refuses for the request's own sake is definite.
    pub definite: bool,
    /// Whether the client tries again, elsewhere.
    pub retry: bool,
    /// What it means.
    pub meaning: &'static str,
}

/// An error of the client protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorCode {
    /// Over the size bound.
    TooLarge,
    /// Not a request that makes sense.
    BadRequest,
    /// The node knows no leader, or stopped leading.
    NoLeader,
    /// The node has too much to do.
    Busy,
    /// The session is unknown or expired.
    SessionExpired,
    /// The session went on to a later operation.
    Superseded,
    /// No reply within the operation's time. Made by the client, never sent.
    Timeout,
    /// A change of membership has to wait.
    NotReady,
}

impl ErrorCode {
    /// All of them.
    pub const ALL: [ErrorCode; 8] = [
        ErrorCode::TooLarge,
        ErrorCode::BadRequest,
        ErrorCode::NoLeader,
        ErrorCode::Busy,
        ErrorCode::SessionExpired,
        ErrorCode::Superseded,
        ErrorCode::Timeout,
        ErrorCode::NotReady,
    ];

    /// The row of this error.
    pub fn row(self) -> ErrorRow {
        let (code, name, definite, retry, meaning) = match self {
            ErrorCode::TooLarge => (
                1,
                "too_large",
                true,
                false,
                "the key is over 4096 bytes, or a value over 1048576, or would be after the append",
            ),
            ErrorCode::BadRequest => {
                (2, "bad_request", true, false, "the key is empty, or there is no such node")
            }
            ErrorCode::NoLeader => {
                (3, "no_leader", false, true, "the node knows no leader, or stopped leading")
            }
            ErrorCode::Busy => (4, "busy", false, true, "the node holds as many requests as it may"),
            ErrorCode::SessionExpired => (
                5,
                "session_expired",
                false,
                false,
                "the session is not known; an earlier attempt may have been applied",
            ),
            ErrorCode::Superseded => (
                6,
                "superseded",
                false,
                false,
                "the session went on; an earlier attempt may have been applied",
            ),
            ErrorCode::Timeout => {
                (7, "timeout", false, false, "no reply in time; it may be applied, now or later")
            }
            ErrorCode::NotReady => (
                8,
                "not_ready",
                false,
                true,
                "another change of membership is under way, or the learner has not caught up yet",
            ),
        };
        ErrorRow { code, name, definite, retry, meaning }
    }

    /// The error with this number.
    pub fn from_code(code: u8) -> Option<ErrorCode> {
        ErrorCode::ALL.into_iter().find(|error| error.row().code == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_come_back() {
        for error in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(error.row().code), Some(error));
        }
        assert_eq!(ErrorCode::from_code(0), None);
    }

    #[test]
    fn only_what_every_node_refuses_is_definite() {
        let definite: Vec<_> = ErrorCode::ALL.into_iter().filter(|e| e.row().definite).collect();
        assert_eq!(definite, [ErrorCode::TooLarge, ErrorCode::BadRequest]);
        assert!(ErrorCode::ALL.into_iter().all(|e| !(e.row().definite && e.row().retry)));
    }
}
