"""Point sets and their files. Registering them is `registration.points`."""
