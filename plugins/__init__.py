"""The built-in plugins; they use the public API like anybody's."""
