"""kernel/: the resources of /proc/iomem."""
