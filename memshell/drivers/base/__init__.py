"""drivers/base/: memory blocks and their links to nodes."""
