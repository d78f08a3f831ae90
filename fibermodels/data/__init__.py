"""Data sets: images in [0, 1] with seeded, reproducible splits. Import the file you need; the data
modules load lightning, which takes seconds."""
