"""The machine as a mounted /sys and /proc: what tools read is its state of the moment, what they write are its commands.

`filesystem` answers FUSE out of the table in `memshell.views.sysroot`; `session` takes turns between it and the prompt;
`mounted` mounts and unmounts; `namespace` runs a command on the mount; `uevents` tells what came and went.
"""
