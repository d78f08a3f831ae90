"""Reports: one HTML file for a result or for a comparison, which needs no other file and no network."""
