"""kernel/."""
