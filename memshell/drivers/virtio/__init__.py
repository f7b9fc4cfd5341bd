"""drivers/virtio/: virtio-mem, memory that grows and shrinks by subblocks."""
