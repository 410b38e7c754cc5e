"""The demonstration: an upstream of our own, played on loopback, and the whole loop over it."""
