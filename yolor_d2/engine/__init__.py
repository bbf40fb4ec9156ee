"""Training: the loop, what hangs on it, and how processes are started."""
