"""drivers/hv/."""
