"""Endings of the names of files that are looked for in folders."""

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES"]

IMAGE_SUFFIXES = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"),
        *(".webp", ".jp2", ".avif"),
    }
)
VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"),
        ".3gp",
    }
)
