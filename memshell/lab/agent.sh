#!/bin/sh
# The guest's shell: obeys lines from a serial port, answers on it.
#
# A line is evaluated; what it prints goes back, then a line "@R STATUS".  Everything that is done after the first step of
# an experiment is done by the shell itself: another program would take pages, and leave them on the zones' lists.
# A write that does not end is ended by the host, with a ^C on the port: the shell dies of it and starts again.
# LAB_ROOT is a root for tests; the guest has none.
R=${LAB_ROOT:-}

# w PATH VALUE: write VALUE in one go, as the kernel's own tools do.
w() {
    echo -n "$2" 2>&1 > "$R$1"
}

# take N SIZE: fill a file of the tmpfs with so many KiB, 64 and 4 at a time; 0 empties it.
take() {
    n=$2
    {
        while [ $n -ge 64 ]; do echo -n "$b" || return; n=$((n - 64)); done
        while [ $n -ge 4 ]; do echo -n "$s" || return; n=$((n - 4)); done
    } > "$R/taken/$1"
}

# have N: wait until that memory block is there, for half a minute at most.
have() {
    n=0
    while [ ! -d "$R/sys/devices/system/memory/memory$1" ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n + 1)); done
    [ -d "$R/sys/devices/system/memory/memory$1" ]
}

# texts FILE...: "@F FILE" and its lines, for each that is there.
texts() {
    for f in "$@"; do
        [ -f "$f" ] || continue
        echo "@F $f"
        while IFS= read -r l; do echo "$l"; done < "$f"
    done
}

# snap: the files of a state.
snap() {
    cd "$R/" || return
    read -r l < proc/sys/vm/stat_refresh
    texts proc/meminfo proc/zoneinfo proc/buddyinfo proc/vmstat proc/pagetypeinfo proc/iomem
    texts sys/devices/system/memory/memory[0-9]*/state
    texts sys/devices/system/memory/memory[0-9]*/removable sys/devices/system/memory/block_size_bytes \
        sys/devices/system/memory/auto_online_blocks sys/devices/system/node/online sys/devices/system/node/possible \
        sys/devices/system/node/has_* sys/module/memory_hotplug/parameters/*
    texts sys/devices/system/memory/memory[0-9]*/valid_zones
    for d in sys/devices/system/node/node[0-9]*/memory[0-9]*; do echo "@F $d/"; done
}

# pages FILE START COUNT: "@Z" and so many times 256K of FILE, packed: other programs, for machines without another way.
pages() {
    echo "@Z"
    dd if="$R$1" bs=262144 skip="$2" count="$3" 2>/dev/null | gzip -1
    echo
}

# Touch the memory that the shell will need, before there is any other to take it from.
x=0123456789abcdef
for f in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
    x=$x$x
    [ $f != 8 ] || s=$x
    [ $f != 12 ] || b=$x
done
x=
for f in 1 2; do
    snap > /dev/null
    w /tmp/warm x
    w /tmp x
    have 0
    take warm 68
    take warm 0
done > /dev/null 2>&1

echo
echo "@READY"
while read -r line; do
    eval "$line"
    echo "@R $?"
done
