"""The same scenario on a real kernel: boot an image in QEMU, play, read the state after each step, compare.

A run goes through four hands. `plan` plays the scenario on the model and writes down, boot by boot, what a real machine
has to do; `play` does it on a guest and makes a recording; `memshell.verify` replays the recording on the model; `report`
shows what agreed. `qemu` is the machine from outside, `guest` the shell inside, `outside` its memory.
"""
