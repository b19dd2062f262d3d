//! `forward`: joins pipelines of one signal.

use crate::config::section::Section;

pub fn decode(section: Section) {
    section.finish();
}
