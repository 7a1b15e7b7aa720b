"""The side of the moving image."""
