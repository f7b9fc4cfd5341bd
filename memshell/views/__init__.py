"""The state as the kernel and util-linux print it: pure functions from the state to text and rows."""
