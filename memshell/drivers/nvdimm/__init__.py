"""drivers/nvdimm/."""
