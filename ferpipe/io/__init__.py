"""Read and write: images, videos, tables, saved models."""
