"""kernel/dma/: memory that is kept for DMA."""
