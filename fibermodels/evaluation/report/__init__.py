"""Reports: one HTML file for a result, a comparison or applications, which needs no other file and no network."""
