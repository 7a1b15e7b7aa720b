"""Party 1's columns: what it multiplies with the fixed operands."""
