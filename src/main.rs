//! The life of the process: read the command line, do what it says, exit with its status.

use std::process::ExitCode;

fn main() -> ExitCode {
    misaki::cli::main()
}
