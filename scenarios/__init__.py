"""The scenarios, shipped with the package."""
