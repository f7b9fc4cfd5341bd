"""mm/page_alloc.c: the buddy lists, allocation, watermarks."""
