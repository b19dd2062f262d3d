//! Extensions: what runs beside the pipelines. Started first, stopped last.

pub mod basicauth;
pub mod bearertokenauth;
pub mod file_storage;
pub mod health_check;
pub mod inspect;
