"""One reader per file format; each yields rows and problems as a stream."""
