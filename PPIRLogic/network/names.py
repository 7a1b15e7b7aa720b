"""The names and numbers of a connection that a person may give. Nothing has to be loaded for them."""

DEFAULT_PORT = 7443
PEER, DEALER, RELAY = "peer", "dealer", "relay"
ROLES = (PEER, DEALER, RELAY)  # what a site is trusted for
