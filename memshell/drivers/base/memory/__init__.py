"""drivers/base/memory.c: memory blocks in sysfs."""
