"""What can be typed, one file for each group of commands. It loads nothing that is slow to load: see decision 12."""
