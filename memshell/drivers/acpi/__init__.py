"""drivers/acpi/."""
