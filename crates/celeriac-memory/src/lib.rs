//! In-process broker and result backend of celeriac: the reference implementation
