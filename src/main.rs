//! The process: parse the command line, run it, exit with its status.

use std::process::ExitCode;

fn main() -> ExitCode {
    misaki::face::main()
}
