"""The series of 2017 to 2019 that takes the memmap of hot-added memory from that memory: v4.20 with its patches.

One module for each kernel source file that it touches, as in `memshell.mm`. `memshell.series.strategy` attaches it to
the model, at the seams that `memshell.mm.seam` names.
"""

NAMES = ("rfc-2017", "rfc-2018", "rfc-v2-2019", "patch-v1-2019")  # its versions, in the order in which they were posted
