//! Embedded durable broker and result backend of celeriac: one SQLite file, many processes
