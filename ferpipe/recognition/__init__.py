"""A fitted model on images, videos and live frames."""
