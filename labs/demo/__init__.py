"""What ``make demo`` shows: a lab, an application on it, and the proof that it is connected."""
