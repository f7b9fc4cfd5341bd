"""drivers/xen/: the balloon of a Xen guest, which grows by sections."""
