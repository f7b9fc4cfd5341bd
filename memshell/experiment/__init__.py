"""What-if experiments on whole sequences of commands: mutate, explore, compare. Pure functions; the commands are thin."""
