"""What an attacker gets from what is public: of sealed files, and of codes with decoys (`ambiguated`) beside them."""
