"""The machine and the operating system: threads, processes, memory, the terminal."""
