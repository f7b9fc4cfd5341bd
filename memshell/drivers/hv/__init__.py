"""drivers/hv/: Hyper-V, which hot-adds memory and backs a part of it."""
