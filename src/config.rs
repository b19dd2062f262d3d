//! Configuration. YAML text becomes a tree that records the place of every value. Trees are merged and expanded, and
//! each component decodes its own part through a `Section`. Decoding does not stop at the first error: `Problems`
//! collects all of them, and shows each with its line.

pub(crate) mod contrib;
pub mod duration;
pub mod emit;
mod expand;
pub(crate) mod files;
mod id;
mod inside;
mod layout;
pub(crate) mod mend;
mod merge;
pub(crate) mod nearest;
mod problems;
pub(crate) mod secrecy;
pub(crate) mod section;
pub(crate) mod source;
pub(crate) mod telemetry;
pub(crate) mod tree;
pub mod yaml;

pub use id::{ComponentId, PipelineId};
pub use layout::{Catalog, Declared, Kind, Layout, Lookup};
pub(crate) use layout::{Pipeline, Reference};
pub(crate) use problems::ON_THIS_MACHINE;
pub use problems::{Level, Problem, Problems};
pub use section::{Secret, Section};
pub use source::{Loaded, load};
pub(crate) use source::{Outside, SET, Source, load_from};
pub use tree::{Entry, Node, Place, Value};
