"""drivers/virtio/virtio_mem.c: memory that grows and shrinks by subblocks, or by big blocks."""
