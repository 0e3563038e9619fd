"""The small controllers and the scheduler a cluster runs, in one process."""
