"""The names and numbers of a connection that a person may give. Nothing has to be loaded for them."""

DEFAULT_PORT = 7443
PEER, DEALER = "peer", "dealer"
ROLES = (PEER, DEALER)  # what a site is trusted for
