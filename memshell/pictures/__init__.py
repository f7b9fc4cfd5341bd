"""Pictures of a machine: what is drawn (one module each), on a canvas that is written as SVG or PNG, and the page."""
