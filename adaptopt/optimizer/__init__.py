"""One step at a time on named arrays: buffers, tables, clipping, precision, state and files."""
