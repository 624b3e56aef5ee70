"""From an experiment file to results: protocols, leak guard, search, scores, report."""
