"""The one door of a closed machine: a port on the guest's own loopback, behind which the proxy stands."""

DOOR_PORT = 13128  # not 3128, which Kiro's own login asks for first
