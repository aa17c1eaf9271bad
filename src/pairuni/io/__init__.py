"""Reading and writing of files: atomic writes, locks, images, text, JSON, parquet, hub downloads."""
