//! `misaki status`: what the running collector says of itself.

use clap::Args;

use super::local::{self, Target};
use super::{Failure, print};

#[derive(Args)]
pub struct Status {
    #[command(flatten)]
    target: Target,
}

pub fn status(options: &Status) -> Result<(), Failure> {
    let text = local::block_on(async { options.target.ask("/status").await?.whole().await })?;
    print(&format!("{}\n", String::from_utf8_lossy(&text)))
}
