"""drivers/nvdimm/: persistent memory, and how much of it its own memmap takes."""
