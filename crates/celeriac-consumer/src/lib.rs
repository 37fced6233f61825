//! The celeriac worker: fetch, decode, run, finish
