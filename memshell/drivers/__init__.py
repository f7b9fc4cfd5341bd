"""The drivers above mm/: memory blocks, and who adds memory. One module for each kernel source file, as in `memshell.mm`."""
