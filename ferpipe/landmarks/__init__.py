"""Where the 68 points of a face are."""
