"""What is computed once and kept: rows of features and fitted steps."""
