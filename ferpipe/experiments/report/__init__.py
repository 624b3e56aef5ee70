"""Results for people: the HTML page, its figures, the formatting of numbers."""
