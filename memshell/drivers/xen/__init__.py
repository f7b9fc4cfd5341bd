"""drivers/xen/."""
