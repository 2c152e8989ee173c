//! What a finished program said: its exit code and its two streams, as text.
//! A wrong exit code always shows everything that was said.

use std::process::{Command, Output};

/// A finished program.
#[derive(Clone, Debug)]
pub struct Said {
    /// The command line, for messages.
    pub command: String,
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its result.
    pub stdout: String,
    /// Its progress and errors.
    pub stderr: String,
}

impl Said {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn of(command: &mut Command) -> Said {
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Said::from_output(&format!("{command:?}"), &output)
    }

    /// The same from the output of a command that was waited for elsewhere.
    pub fn from_output(command: &str, output: &Output) -> Said {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            command: command.to_owned(),
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Itself, if the exit code is `code`.
    ///
    /// # Panics
    /// When it is another one.
    pub fn exits(self, code: i32) -> Said {
        assert_eq!(self.code, Some(code), "exit code of {}\n{self}", self.command);
        self
    }

    /// Asserts that an error was told as it should be: one `error:` that contains `words`, and a way out.
    ///
    /// # Panics
    /// When it was not.
    pub fn tells(&self, words: &str, hint: &str) {
        let errors = self.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        let (error, way_out) = self.stderr.split_once("hint: ").unwrap_or((&self.stderr, ""));
        assert!(errors == 1 && error.contains(words) && way_out.contains(hint), "{}\n{self}", self.command);
        assert!(!self.stderr.contains("panicked"), "{}\n{self}", self.command);
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "-- stdout\n{}\n-- stderr\n{}", self.stdout, self.stderr)
    }
}
