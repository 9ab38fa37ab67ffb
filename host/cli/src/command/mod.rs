//! The commands, a file each.

pub(crate) mod batch;
pub(crate) mod inspect;
pub(crate) mod model;
pub(crate) mod program_help;
pub(crate) mod remote;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod tenant;
