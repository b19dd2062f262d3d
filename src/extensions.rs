//! Extensions: what runs beside the pipelines. Started first, stopped last.

pub mod file_storage;
pub mod health_check;
