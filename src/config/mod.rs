//! Settings and their validation: the server's (file, environment, command line) and the active
//! configuration's (`/configure`). Knows no other module.

pub mod run;
