"""mm/mm_init.c: zones and struct pages are initialised; where ZONE_MOVABLE begins at boot."""
