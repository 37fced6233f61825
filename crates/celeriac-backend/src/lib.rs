//! The result backend trait of celeriac
