"""The grid of a scenario's parameters: its axes, the cells, where they are played, what is kept, the table."""
