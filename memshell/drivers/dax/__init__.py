"""drivers/dax/."""
