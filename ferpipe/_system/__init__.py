"""What the machine gives: threads, processes, memory, the terminal."""
