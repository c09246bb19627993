"""Training of the zoo: small models of the real classes, from scratch, on rendered scenes of the Toybox."""
