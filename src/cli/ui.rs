//! `misaki ui`: a local page that shows what passes through the running collector.

mod pages;
mod store;
