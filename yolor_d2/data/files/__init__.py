"""Reading and writing image files and label maps."""
