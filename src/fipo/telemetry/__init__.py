"""The run directory, the clock and the terminal."""
