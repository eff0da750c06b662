//! What is wrong with a configuration, in words for the one who wrote it.

use std::{fmt, path::PathBuf};

/// Everything that is wrong with one file. It never shows a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub file: PathBuf,
    /// At least one, in the order of the lines.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong, or that is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1; `None` when it concerns the file as a whole.
    pub line: Option<usize>,
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.what, self.remedy)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            write!(formatter, "{}:", self.file.display())?;
            if let Some(line) = problem.line {
                write!(formatter, "{line}:")?;
            }
            write!(formatter, " {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
