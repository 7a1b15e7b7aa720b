"""What was disclosed: counted, bounded and on record, before it leaves."""
