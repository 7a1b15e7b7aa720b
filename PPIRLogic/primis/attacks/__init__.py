"""What an attacker gets from what is public: from sealed files, and from codes with decoys (`ambiguated`) beside them."""
