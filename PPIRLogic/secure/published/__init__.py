"""The protocols as published (CKKS), to compare with."""
