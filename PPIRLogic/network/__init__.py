"""Two sites, one connection: who they are, whom they trust, what they may say."""
