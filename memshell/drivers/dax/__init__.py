"""drivers/dax/: device memory that becomes RAM."""
