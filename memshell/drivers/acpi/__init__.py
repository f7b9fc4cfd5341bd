"""drivers/acpi/: DIMMs, and the scan that plugs and ejects them."""
